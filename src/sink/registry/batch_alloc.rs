//! Memory for records, taken for several in one go.
//!
//! What is kept of a dial, and what probes find of its connection, outlives by far what is allocated for it besides. One
//! by one the blocks would come to lie between the large ones that HTTP and TLS free again, and the allocator would
//! search its way between them.

use super::shard::{self, Padded};
use crate::sink::{
    core::Core,
    dial::group::{DialHead, Group},
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Boxes or the like that nobody has written into.
pub(in crate::sink) struct Blanks<T>(Box<[Padded<Mutex<Vec<T>>>]>);

/// How many are made at a time.
const BATCH: usize = 16;

impl<T> Blanks<T> {
    /// For so many records.
    pub(in crate::sink) fn new(records: usize) -> Self {
        Blanks((0..shard::count(records, BATCH)).map(|_| Padded(Mutex::default())).collect())
    }

    pub(in crate::sink) fn take(&self, make: impl Fn() -> T) -> T {
        let mut blanks = self.0[shard::mine(self.0.len())].lock().unwrap_or_else(PoisonError::into_inner);
        if blanks.is_empty() {
            blanks.extend((0..BATCH).map(|_| make()));
        }
        blanks.pop().unwrap_or_else(make)
    }
}

impl Blanks<Arc<Group>> {
    pub(in crate::sink) fn group(&self, core: &Arc<Core>, dial: Option<DialHead>) -> Arc<Group> {
        let mut group = self.take(|| Arc::new(Group::blank(core.clone())));
        if let Some(blank) = Arc::get_mut(&mut group) {
            blank.begins(dial); // nobody else has seen it
        }
        group
    }
}

impl<T> fmt::Debug for Blanks<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blanks")
    }
}
