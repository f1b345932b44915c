//! The memory that finished records may take.
//!
//! A record is charged when it ends, and its charge is released when it is evicted. A running record is not charged:
//! what it can take is limited by `record::limits`.

use super::registry::shard::CachePadded;
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Relaxed, Release},
};

/// The memory budget of a sink, and how much of it is charged.
#[derive(Debug)]
pub(crate) struct Budget {
    /// The limit in bytes; `usize::MAX` if there is none, in which case nothing is charged.
    limit: usize,
    /// Written whenever a connection ends, and therefore in a cache line of its own: every request reads the other
    /// fields.
    charged: CachePadded<Charged>,
    /// Set if the next record that begins must evict others.
    is_exceeded: AtomicBool,
}

#[derive(Debug, Default)]
struct Charged {
    bytes: AtomicUsize,
    /// The number of charged bytes above which the next record evicts others.
    threshold: AtomicUsize,
    /// The number of bytes, fixed ones included, above which the next chunk of records evicts others.
    #[cfg(feature = "_record")]
    due: AtomicUsize,
}

impl Budget {
    /// Creates a budget of `limit` bytes, of which `fixed` are taken by what is not charged.
    pub(super) fn new(limit: usize, fixed: usize) -> Self {
        let threshold = threshold(limit, fixed).into();
        let charged = Charged {
            bytes: 0.into(),
            threshold,
            #[cfg(feature = "_record")]
            due: limit.into(),
        };
        Budget { limit, charged: CachePadded(charged), is_exceeded: AtomicBool::new(false) }
    }

    pub(super) fn is_limited(&self) -> bool {
        self.limit != usize::MAX
    }

    /// Charges the bytes of a record that has ended.
    #[inline]
    pub(super) fn charge(&self, bytes: usize) {
        if bytes > 0 {
            self.recharge(0, bytes);
        }
    }

    /// Charges `bytes` in place of what was charged for the same record before.
    pub(super) fn recharge(&self, before: usize, bytes: usize) {
        let more = bytes.wrapping_sub(before);
        let charged = self.charged.bytes.fetch_add(more, Relaxed).wrapping_add(more);
        if charged > self.charged.threshold.load(Relaxed) {
            self.is_exceeded.store(true, Release);
        }
    }

    /// Releases what was charged for a record that is evicted.
    pub(super) fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.charged.bytes.fetch_sub(bytes, Relaxed);
        }
    }
}

#[cfg(feature = "_record")]
impl Budget {
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn charged(&self) -> usize {
        self.charged.bytes.load(Relaxed)
    }

    /// Returns `true` if the next record that begins must evict others.
    #[inline]
    pub(super) fn is_exceeded(&self) -> bool {
        self.is_exceeded.load(Relaxed)
    }

    /// Returns `true` if an eviction is due now that `fixed` bytes are taken by what is not charged.
    ///
    /// After an eviction that could not free enough, the next one is due only when more was charged, or when the total
    /// has grown by another 1/32 of the limit.
    pub(super) fn is_due(&self, fixed: usize) -> bool {
        let taken = fixed.saturating_add(self.charged());
        // The threshold falls with the total, down to the limit.
        let due = self.charged.due.fetch_min(self.next_due(taken), Relaxed);
        self.is_exceeded() || taken > due
    }

    /// Ends an eviction. The next one starts once another 1/32 of the limit is charged.
    pub(super) fn settle(&self, fixed: usize) {
        let charged = self.charged();
        let again = charged.saturating_add(self.limit / 32);
        self.charged.threshold.store(threshold(self.limit, fixed).max(again), Relaxed);
        self.charged.due.store(self.next_due(fixed.saturating_add(charged)), Relaxed);
        self.is_exceeded.store(false, Relaxed);
    }

    fn next_due(&self, taken: usize) -> usize {
        self.limit.max(taken.saturating_add(self.limit / 32))
    }
}

/// Returns how many bytes may be charged: what `fixed` leaves of the limit, but at least an eighth of it.
fn threshold(limit: usize, fixed: usize) -> usize {
    limit.saturating_sub(fixed).max(limit / 8)
}

#[cfg(all(test, feature = "_record"))]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_exceeded_until_room_is_made() {
        let budget = Budget::new(1_000, 200);
        budget.charge(800);
        assert!(!budget.is_exceeded());
        budget.charge(1);
        assert!(budget.is_exceeded());
        budget.release(500);
        budget.settle(200);
        assert!(!budget.is_exceeded());
        budget.charge(499);
        assert!(!budget.is_exceeded());
        budget.charge(1);
        assert!(budget.is_exceeded());
    }

    #[test]
    fn new_chunks_do_not_retry_a_failed_eviction() {
        let budget = Budget::new(3_200, 0);
        assert!(!budget.is_due(3_200) && budget.is_due(3_201));
        budget.charge(5_000);
        assert!(budget.is_due(0));
        budget.settle(0);
        assert!(!budget.is_due(0) && !budget.is_due(100) && budget.is_due(101));
        // When some bytes are released, eviction starts earlier again.
        budget.release(1_000);
        assert!(!budget.is_due(0) && !budget.is_due(100) && budget.is_due(101));
        budget.release(3_000);
        assert!(!budget.is_due(0) && !budget.is_due(2_200) && budget.is_due(2_201));
    }

    #[test]
    fn a_failed_eviction_is_not_retried_at_once() {
        let budget = Budget::new(3_200, 0);
        budget.charge(5_000);
        budget.settle(0);
        budget.charge(100);
        assert!(!budget.is_exceeded());
        budget.charge(1);
        assert!(budget.is_exceeded());
    }
}
