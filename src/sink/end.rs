//! How a thing ended. Exactly once, whoever comes first: its owner, a timeout, or the closing of the sink.

use super::clock::Tick;
use crate::{error::Fault, record::EndReason};
use std::sync::{
    OnceLock,
    atomic::{
        AtomicU8, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

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

    pub(crate) fn reason(&self) -> Option<EndReason> {
        match self.state.load(Acquire) {
            OPEN | ENDING => None,
            code => REASONS.get(usize::from(code) - 1).cloned(),
        }
    }

    pub(crate) fn at(&self) -> Tick {
        if self.is_open() { Tick::NONE } else { Tick(self.at.load(Relaxed)) }
    }

    pub(crate) fn fault(&self) -> Option<&Fault> {
        self.fault.get().map(|fault| &**fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_end_stays() {
        let cell = EndCell::default();
        assert!(cell.is_open() && cell.reason().is_none() && !cell.at().is_some());
        assert!(cell.end(
            Tick(5),
            EndReason::Timeout,
            Some(Fault::new(crate::record::Failure::GenericTimeoutError, "slow"))
        ));
        assert!(!cell.end(Tick(9), EndReason::Closed, None));
        assert_eq!((cell.at(), cell.reason()), (Tick(5), Some(EndReason::Timeout)));
        assert_eq!(cell.fault().map(|fault| &*fault.text), Some("slow"));
    }
}
