//! How much memory finished records take, against what they may take.
//!
//! Records are weighed when they end, and that is given back when they are forgotten. Nothing is counted while they
//! run: what one of them can take until then is limited (see `record::limits`).

use super::shard::Padded;
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Relaxed, Release},
};

#[derive(Debug)]
pub(crate) struct Budget {
    /// `usize::MAX` where nothing is weighed.
    limit: usize,
    /// Written by whoever ends a connection; apart from what each request reads.
    charged: Padded<Charged>,
    /// The next record that begins is to make room.
    is_exceeded: AtomicBool,
}

#[derive(Debug, Default)]
struct Charged {
    bytes: AtomicUsize,
    /// With so many bytes room is to be made.
    threshold: AtomicUsize,
}

impl Budget {
    /// A budget of so many bytes, of which `fixed` go to what is not charged.
    pub(super) fn new(limit: usize, fixed: usize) -> Self {
        let charged = Charged { threshold: threshold(limit, fixed).into(), ..Charged::default() };
        Budget { limit, charged: Padded(charged), is_exceeded: AtomicBool::new(false) }
    }

    pub(super) fn is_limited(&self) -> bool {
        self.limit != usize::MAX
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// A record that has ended takes so many bytes.
    pub(super) fn charge(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let charged = self.charged.bytes.fetch_add(bytes, Relaxed).wrapping_add(bytes);
        if charged > self.charged.threshold.load(Relaxed) {
            self.is_exceeded.store(true, Release);
        }
    }

    /// Such a record is forgotten.
    pub(super) fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.charged.bytes.fetch_sub(bytes, Relaxed);
        }
    }

    pub(super) fn charged(&self) -> usize {
        self.charged.bytes.load(Relaxed)
    }

    /// Returns `true` if room is to be made.
    #[inline]
    pub(super) fn is_exceeded(&self) -> bool {
        self.is_exceeded.load(Relaxed)
    }

    /// Room was made, as far as there is any to be made: a part of the budget later it is tried again.
    pub(super) fn settle(&self, fixed: usize) {
        let again = self.charged().saturating_add(self.limit / 32);
        self.charged.threshold.store(threshold(self.limit, fixed).max(again), Relaxed);
        self.is_exceeded.store(false, Relaxed);
    }
}

/// What is left for what is charged, and some of it in any case.
fn threshold(limit: usize, fixed: usize) -> usize {
    limit.saturating_sub(fixed).max(limit / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_exceeded_until_room_was_made() {
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
    fn what_cannot_go_is_not_tried_at_once_again() {
        let budget = Budget::new(3_200, 0);
        budget.charge(5_000);
        budget.settle(0);
        budget.charge(100);
        assert!(!budget.is_exceeded());
        budget.charge(1);
        assert!(budget.is_exceeded());
    }
}
