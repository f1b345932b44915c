//! What a probe found in the kernel's connection tracking.

use super::record::ConnRef;
#[cfg(all(feature = "conntrack", target_os = "linux"))]
use crate::record::EndReason;
use crate::{
    record::ConntrackEntry,
    sink::{clock::Tick, core::Timeline, probe::catch_panic},
};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The newest entry. No larger than a pointer and a flag as long as there is none.
#[derive(Debug, Default)]
pub(crate) struct ConntrackCell(OnceLock<Box<Mutex<Captured>>>);

#[derive(Debug, Default)]
struct Captured {
    at: Tick,
    entry: ConntrackEntry,
}

impl ConntrackCell {
    fn put(&self, at: Tick, entry: ConntrackEntry) {
        let mut newest = Some(Captured { at, entry });
        let kept = self.0.get_or_init(|| Box::new(Mutex::new(newest.take().unwrap_or_default())));
        if let Some(newest) = newest {
            *lock(kept) = newest;
        }
    }

    /// The heap memory that it takes.
    pub(in crate::sink) fn heap_bytes(&self) -> usize {
        self.0.get().map_or(0, |_| size_of::<Mutex<Captured>>())
    }

    pub(in crate::sink) fn export(&self, times: &Timeline) -> Option<Box<ConntrackEntry>> {
        let captured = lock(self.0.get()?);
        Some(Box::new(ConntrackEntry { captured_at: times.at(captured.at), ..captured.entry.clone() }))
    }
}

fn lock(captured: &Mutex<Captured>) -> MutexGuard<'_, Captured> {
    captured.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ConnRef {
    /// Keeps what a [`Probe`](super::Probe) found in the kernel's connection tracking, in place of what was kept
    /// before. Its `captured_at` becomes the present time. Also for a connection that has ended. The sink's probes
    /// are [told](super::Probe::conntrack).
    pub fn conntrack(&self, entry: ConntrackEntry) {
        // Also while the sink is closed, when it is asked for the last time.
        for probe in &self.group.core.config.probes {
            catch_panic(|| probe.conntrack(self, &entry));
        }
        self.record().conntrack.put(self.group.core.now(), entry);
    }

    /// Whether this is a UDP socket and not a TCP connection.
    pub fn is_udp(&self) -> bool {
        self.record().is_udp()
    }
}

/// What the probe of this crate asks.
#[cfg(all(feature = "conntrack", target_os = "linux"))]
impl ConnRef {
    /// Looks at the entry that is kept.
    pub(crate) fn known_conntrack<R>(&self, look: impl FnOnce(&ConntrackEntry) -> R) -> Option<R> {
        let captured = self.record().conntrack.0.get()?;
        Some(look(&lock(captured).entry))
    }

    /// Whether it has not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.record().end.is_open()
    }

    /// Whether nobody says any more what becomes of it.
    pub(crate) fn is_of_closed_sink(&self) -> bool {
        self.group.core.is_closed()
    }

    /// Whether a packet was sent.
    pub(crate) fn was_used(&self) -> bool {
        let record = self.record();
        !record.is_udp() || record.totals().0 > 0
    }

    /// Whether it ended for want of an answer.
    pub(crate) fn timed_out(&self) -> bool {
        self.record().end.get().is_some_and(|end| end.reason == EndReason::Timeout)
    }

    /// Whether a packet came from the peer.
    pub(crate) fn was_answered(&self) -> bool {
        let record = self.record();
        if record.is_udp() { record.totals().1 > 0 } else { record.established().is_some() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_without_an_entry_costs_little() {
        assert!(size_of::<ConntrackCell>() <= 16);
    }

    #[test]
    fn the_newest_entry_stays() {
        let (cell, times) = (ConntrackCell::default(), Timeline::test());
        assert!(cell.export(&times).is_none());
        for mark in [1, 2] {
            cell.put(Tick(mark.into()), ConntrackEntry { mark, ..ConntrackEntry::default() });
        }
        let entry = cell.export(&times).unwrap();
        assert_eq!((entry.mark, entry.captured_at), (2, times.at(Tick(2))));
    }
}
