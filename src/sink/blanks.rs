//! Memory for dials, taken for several in one go.
//!
//! What is kept of a dial outlives by far what is allocated for it besides. One by one the blocks would come to lie
//! between the large ones that HTTP and TLS free again, and the allocator would search its way between them.

use super::{
    core::Core,
    group::{DialHead, Group},
    shard::{self, Padded},
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

pub(super) struct Blanks(Box<[Padded<Mutex<Vec<Arc<Group>>>>]>);

/// How many are made at a time.
const BATCH: usize = 16;

impl Blanks {
    /// `shards` is a power of two.
    pub(super) fn new(shards: usize) -> Self {
        Blanks((0..shards).map(|_| Padded(Mutex::default())).collect())
    }

    pub(super) fn group(&self, core: &Arc<Core>, dial: Option<DialHead>) -> Arc<Group> {
        let mut group = self.take(core);
        if let Some(blank) = Arc::get_mut(&mut group) {
            blank.begins(dial); // nobody else has seen it
        }
        group
    }

    fn take(&self, core: &Arc<Core>) -> Arc<Group> {
        let mut blanks = self.0[shard::mine(self.0.len())].0.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || Arc::new(Group::blank(core.clone()));
        if blanks.is_empty() {
            blanks.extend((0..BATCH).map(|_| make()));
        }
        blanks.pop().unwrap_or_else(make)
    }
}

impl fmt::Debug for Blanks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blanks")
    }
}
