//! Memory for records, taken for several in one go.
//!
//! What is kept of a dial, and what probes find of its connection, outlives by far what is allocated for it besides. One
//! by one the blocks would come to lie between the large ones that HTTP and TLS free again, and the allocator would
//! search its way between them.

use super::shard::{self, CachePadded};
use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

/// Boxes or the like that nobody has written into.
pub(in crate::sink) struct BatchAlloc<T>(Box<[CachePadded<Mutex<Vec<T>>>]>);

/// How many are made at a time.
const BATCH_LEN: usize = 16;

impl<T> BatchAlloc<T> {
    /// For so many records.
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
