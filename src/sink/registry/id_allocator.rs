//! [`IdAllocator`]: numbers the records.

use super::CHUNK;
#[cfg(feature = "_record")]
use super::shard::CachePadded;
#[cfg(feature = "_record_conns")]
use crate::sink::record_id::RecordId;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Hands out the numbers of records, in blocks, so that threads do not share a cache line.
///
/// The counter orders no other memory accesses, so the loom models leave it out.
#[derive(Debug)]
pub(crate) struct IdAllocator(AtomicU64);

impl IdAllocator {
    pub(crate) const fn new() -> Self {
        IdAllocator(AtomicU64::new(1))
    }

    /// Returns the allocator of all sinks of this process, so that identifiers differ between sinks.
    ///
    /// One counter is enough: it is used once for 32 requests, and once for each dial, connection, tunnel and DNS
    /// query.
    #[cfg(feature = "_record")]
    pub(crate) fn of_process() -> &'static Self {
        static ID_ALLOC: CachePadded<IdAllocator> = CachePadded(IdAllocator::new());
        &ID_ALLOC.0
    }

    #[cfg(feature = "_record_conns")]
    pub(crate) fn next_id(&self) -> RecordId {
        RecordId::from_nonzero(self.0.fetch_add(1, Relaxed))
    }

    pub(super) fn next_block(&self) -> u64 {
        self.0.fetch_add(CHUNK as u64, Relaxed)
    }
}
