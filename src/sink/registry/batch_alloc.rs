//! [`BatchAlloc`]: allocates the memory of long-lived records for several at once.
//!
//! Dial groups and probe data live far longer than everything else that a new connection allocates. Allocated one by
//! one they end up between the large buffers that HTTP and TLS free again, and the allocator has to search around them.
//! One block for a dial with its first connection, allocated for 16 dials at once, is among what brought a new
//! connection from 1.124 of an untraced one to under 1.1 (benches/README.md).

use super::shard::{self, CachePadded};
use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

/// Pre-allocated, unused values of `T`.
pub(in crate::sink) struct BatchAlloc<T>(Box<[CachePadded<Mutex<Vec<T>>>]>);

/// How many values are allocated at once.
const BATCH_LEN: usize = 16;

impl<T> BatchAlloc<T> {
    /// Creates an allocator for about this many records.
    pub(in crate::sink) fn new(records: usize) -> Self {
        BatchAlloc((0..shard::count(records, BATCH_LEN)).map(|_| CachePadded(Mutex::default())).collect())
    }

    pub(in crate::sink) fn take(&self, make: impl Fn() -> T) -> T {
        let mut unused = self.0[shard::mine(self.0.len())].lock().unwrap_or_else(PoisonError::into_inner);
        if unused.is_empty() {
            unused.extend((0..BATCH_LEN).map(|_| make()));
        }
        unused.pop().unwrap_or_else(make)
    }
}

impl<T> fmt::Debug for BatchAlloc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BatchAlloc")
    }
}
