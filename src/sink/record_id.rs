//! [`RecordId`]: how records refer to each other before a trace is taken.

use std::{
    num::NonZeroU64,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// The number of a record, unique in the process. [`IdFormat`](super::IdFormat) turns it into the identifier in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RecordId(NonZeroU64);

impl RecordId {
    /// Returns the ID with this number; `None` for zero.
    #[inline]
    pub(super) const fn new(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(RecordId(number)),
            None => None,
        }
    }

    /// Returns the ID with this number. Numbers begin with one: zero is taken for it.
    #[inline]
    pub(super) const fn from_nonzero(number: u64) -> Self {
        match Self::new(number) {
            Some(id) => id,
            None => RecordId(NonZeroU64::MIN),
        }
    }

    #[inline]
    pub(super) const fn get(self) -> u64 {
        self.0.get()
    }
}

/// An `Option<RecordId>` that one thread writes while others read it.
#[derive(Debug, Default)]
pub(super) struct AtomicRecordId(AtomicU64);

impl AtomicRecordId {
    pub(super) fn get(&self) -> Option<RecordId> {
        RecordId::new(self.0.load(Relaxed))
    }

    #[cfg(feature = "tls")]
    pub(super) fn set(&self, id: RecordId) {
        self.0.store(id.get(), Relaxed);
    }

    /// Returns the ID that was there before.
    #[cfg(feature = "tls")]
    pub(super) fn replace(&self, id: RecordId) -> Option<RecordId> {
        RecordId::new(self.0.swap(id.get(), Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_optional_id_takes_no_extra_space() {
        assert_eq!(size_of::<Option<RecordId>>(), size_of::<u64>());
    }
}
