//! How a thing ended. Exactly once, whoever comes first: its owner, a timeout, or the closing of the sink.

use super::clock::Tick;
use crate::{
    error::Fault,
    record::EndReason,
    sync::{AtomicU8, AtomicU64, OnceLock},
};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// When, how and why.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    pub(crate) at: Tick,
    pub(crate) reason: EndReason,
    pub(crate) fault: Option<Fault>,
}

/// An [`End`] that one thread writes while others look: they see all of it or nothing.
#[derive(Debug, Default)]
pub(crate) struct EndCell {
    state: AtomicU8,
    at: AtomicU64,
    fault: OnceLock<Box<Fault>>,
}

const OPEN: u8 = 0;
const ENDING: u8 = u8::MAX;

/// Their place is their number less one.
const REASONS: [EndReason; 8] = [
    EndReason::Closed,
    EndReason::PeerClosed,
    EndReason::Failed,
    EndReason::Cancelled,
    EndReason::LostRace,
    EndReason::Timeout,
    EndReason::IdleLimit,
    EndReason::SinkClosed,
];

impl EndCell {
    /// True for the call that ended it.
    pub(crate) fn end(&self, at: Tick, reason: EndReason, fault: Option<Fault>) -> bool {
        if self.state.compare_exchange(OPEN, ENDING, AcqRel, Relaxed).is_err() {
            return false;
        }
        self.at.store(at.0, Relaxed);
        if let Some(fault) = fault {
            let _ = self.fault.set(Box::new(fault));
        }
        let code = REASONS.iter().position(|known| *known == reason).map_or(1, |i| i as u8 + 1);
        self.state.store(code, Release);
        true
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state.load(Acquire), OPEN | ENDING)
    }

    /// The end, once there is one. What its owner wrote before is seen by whoever has seen the end: read it
    /// first, then what it is the end of.
    pub(crate) fn get(&self) -> Option<End> {
        let reason = match self.state.load(Acquire) {
            OPEN | ENDING => return None,
            code => REASONS.get(usize::from(code) - 1).cloned()?,
        };
        let fault = self.fault.get().map(|fault| (**fault).clone());
        Some(End { at: Tick(self.at.load(Relaxed)), reason, fault })
    }

    /// What went wrong, once it has ended.
    pub(crate) fn fault(&self) -> Option<&Fault> {
        if self.is_open() { None } else { self.fault.get().map(|fault| &**fault) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Failure;

    #[test]
    fn the_first_end_stays() {
        let cell = EndCell::default();
        assert!(cell.is_open() && cell.get().is_none() && cell.fault().is_none());
        let fault = Fault::new(Failure::GenericTimeoutError, "slow");
        assert!(cell.end(Tick(5), EndReason::Timeout, Some(fault.clone())));
        assert!(!cell.end(Tick(9), EndReason::Closed, None));
        assert!(!cell.is_open());
        assert_eq!(cell.get(), Some(End { at: Tick(5), reason: EndReason::Timeout, fault: Some(fault) }));
    }
}
