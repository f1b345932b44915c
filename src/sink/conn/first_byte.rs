//! [`FirstByteCell`]: when the first byte of a response came.

use crate::sink::clock::Tick;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The time of the first byte after a request was given the connection.
///
/// A word that is zero before a request was given the connection, [`FIRST_BYTE_PENDING`] until the byte comes, and a
/// [`Tick`] afterwards.
#[derive(Debug, Default)]
pub(crate) struct FirstByteCell(AtomicU64);

/// The value of a [`FirstByteCell`] that waits for the byte.
const FIRST_BYTE_PENDING: u64 = u64::MAX;

impl FirstByteCell {
    /// Waits for the next byte.
    #[cfg(feature = "_record_requests")]
    pub(super) fn expect(&self) {
        self.0.store(FIRST_BYTE_PENDING, Relaxed);
    }

    #[cfg(feature = "connect")]
    #[inline]
    pub(in crate::sink) fn is_expected(&self) -> bool {
        self.0.load(Relaxed) == FIRST_BYTE_PENDING
    }

    #[cfg(feature = "connect")]
    pub(super) fn set(&self, at: Tick) {
        self.0.store(at.get(), Relaxed);
    }

    #[cfg(feature = "_record_requests")]
    #[inline]
    pub(super) fn get(&self) -> Option<Tick> {
        match self.0.load(Relaxed) {
            0 | FIRST_BYTE_PENDING => None,
            ticks => Some(Tick::from_ticks(ticks)),
        }
    }
}
