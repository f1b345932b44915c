//! [`EndCell`]: the end of a record, which happens once, whoever comes first: its owner, a timeout, or the closing of
//! the sink.

use crate::{
    error::FailureDetail,
    record::EndReason,
    sink::clock::Tick,
    sync::{AtomicU8, AtomicU64, OnceLock},
};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// When, how and why a record ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct End {
    pub(crate) at: Tick,
    pub(crate) reason: EndReason,
    pub(crate) fault: Option<FailureDetail>,
}

/// An [`End`] that one thread writes while others read it: they see all of it or nothing.
#[derive(Debug, Default)]
pub(crate) struct EndCell {
    state: AtomicU8,
    /// A [`Tick`]. Written before `state` shows the end.
    at: AtomicU64,
    fault: OnceLock<Box<FailureDetail>>,
}

const OPEN: u8 = 0;
const ENDING: u8 = HAS_LINKS - 1;
/// A flag that is set in addition to one of the other states.
const HAS_LINKS: u8 = 1 << 7;

impl EndCell {
    #[cfg(feature = "_record_requests")]
    pub(crate) fn new(has_links: bool) -> Self {
        EndCell { state: AtomicU8::new(if has_links { HAS_LINKS } else { OPEN }), ..EndCell::default() }
    }

    /// Ends the record. Returns `true` for the call that ended it.
    pub(crate) fn end(&self, at: Tick, reason: &EndReason, fault: Option<FailureDetail>) -> bool {
        let ending = self.begin_end();
        let is_first = ending.is_some();
        if let Some(ending) = ending {
            ending.finish(at, reason, fault);
        }
        is_first
    }

    /// Claims the right to end the record. Returns `None` if another caller already has. The claimant may still write
    /// to the record before it calls [`Ending::finish`].
    #[inline]
    pub(crate) fn begin_end(&self) -> Option<Ending<'_>> {
        let links_flag = match self.state.compare_exchange(OPEN, ENDING, AcqRel, Acquire) {
            Ok(_) => 0,
            Err(HAS_LINKS) => {
                // The flag is never cleared.
                self.state.compare_exchange(HAS_LINKS, HAS_LINKS | ENDING, AcqRel, Relaxed).ok()?;
                HAS_LINKS
            }
            Err(_) => return None,
        };
        Some(Ending { cell: self, links_flag })
    }

    /// Sets the flag that tells whoever ends the record that it has links. Returns `false` if the end has begun, and
    /// may not see the flag any more.
    pub(crate) fn set_has_links(&self) -> bool {
        match self.state.compare_exchange(OPEN, HAS_LINKS, AcqRel, Acquire) {
            Ok(_) => true,
            Err(state) => state == HAS_LINKS,
        }
    }

    /// Returns `true` if the record has links.
    #[inline]
    pub(crate) fn has_links(&self) -> bool {
        self.state.load(Acquire) & HAS_LINKS != 0
    }

    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state.load(Acquire) & !HAS_LINKS, OPEN | ENDING)
    }

    /// Returns the end, once there is one.
    ///
    /// Read it before the record that it belongs to: whoever has seen the end also sees what the owner wrote before.
    pub(crate) fn get(&self) -> Option<End> {
        let reason = match self.state.load(Acquire) & !HAS_LINKS {
            OPEN | ENDING => return None,
            code => reason(code)?,
        };
        let fault = self.fault.get().map(|fault| (**fault).clone());
        Some(End { at: Tick::from_ticks(self.at.load(Relaxed)), reason, fault })
    }

    /// Returns what went wrong, once the record has ended.
    pub(crate) fn fault(&self) -> Option<&FailureDetail> {
        if self.is_open() { None } else { self.fault.get().map(|fault| &**fault) }
    }
}

/// The right to end a record.
pub(crate) struct Ending<'a> {
    cell: &'a EndCell,
    links_flag: u8,
}

impl Ending<'_> {
    pub(crate) fn has_links(&self) -> bool {
        self.links_flag != 0
    }

    pub(crate) fn finish(self, at: Tick, reason: &EndReason, fault: Option<FailureDetail>) {
        self.cell.at.store(at.get(), Relaxed);
        if let Some(fault) = fault {
            let _ = self.cell.fault.set(Box::new(fault));
        }
        let code = code(reason);
        self.cell.state.store(code | self.links_flag, Release);
    }
}

/// Returns the state of an [`EndCell`] that ended for this reason.
fn code(reason: &EndReason) -> u8 {
    match reason {
        EndReason::Closed => 1,
        EndReason::PeerClosed => 2,
        EndReason::Failed => 3,
        EndReason::Cancelled => 4,
        EndReason::LostRace => 5,
        EndReason::Timeout => 6,
        EndReason::IdleLimit => 7,
        EndReason::Unobserved => 8,
        EndReason::SinkClosed => 9,
        EndReason::Other(_) => {
            debug_assert!(false, "only a trace that was read has a reason that this version does not know");
            1
        }
    }
}

/// The inverse of [`code`].
fn reason(code: u8) -> Option<EndReason> {
    Some(match code {
        1 => EndReason::Closed,
        2 => EndReason::PeerClosed,
        3 => EndReason::Failed,
        4 => EndReason::Cancelled,
        5 => EndReason::LostRace,
        6 => EndReason::Timeout,
        7 => EndReason::IdleLimit,
        8 => EndReason::Unobserved,
        9 => EndReason::SinkClosed,
        _ => return None,
    })
}

#[cfg(all(test, feature = "connect"))]
mod tests {
    use super::*;
    use crate::record::Failure;

    #[test]
    fn the_first_end_is_kept() {
        let cell = EndCell::default();
        assert!(cell.is_open() && cell.get().is_none() && cell.fault().is_none());
        let fault = FailureDetail::new(Failure::GenericTimeoutError, "slow");
        assert!(cell.end(Tick::from_ticks(5), &EndReason::Timeout, Some(fault.clone())));
        assert!(!cell.end(Tick::from_ticks(9), &EndReason::Closed, None));
        assert!(!cell.is_open());
        assert_eq!(
            cell.get(),
            Some(End { at: Tick::from_ticks(5), reason: EndReason::Timeout, fault: Some(fault) })
        );
    }

    #[test]
    fn the_thread_that_ends_a_record_sees_its_links() {
        let [linked, late] = [EndCell::default(), EndCell::default()];
        assert!(linked.set_has_links() && linked.set_has_links() && linked.has_links() && linked.is_open());
        let ending = linked.begin_end().expect("the first");
        assert!(
            ending.has_links() && linked.is_open() && linked.begin_end().is_none() && !linked.set_has_links()
        );
        ending.finish(Tick::from_ticks(5), &EndReason::Closed, None);
        assert!(linked.has_links() && !linked.is_open() && !linked.set_has_links());
        assert_eq!(
            linked.get(),
            Some(End { at: Tick::from_ticks(5), reason: EndReason::Closed, fault: None })
        );

        assert!(!late.begin_end().expect("the first").has_links());
        assert!(!late.set_has_links() && !late.has_links());
    }

    #[test]
    fn every_reason_is_kept() {
        for code in 1..=9 {
            let (cell, reason) = (EndCell::default(), reason(code).expect("a reason"));
            assert!(cell.end(Tick::from_ticks(1), &reason, None));
            assert_eq!(cell.get().map(|end| end.reason), Some(reason));
        }
        assert_eq!(reason(10), None);
    }
}
