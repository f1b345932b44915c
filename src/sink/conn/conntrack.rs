//! The conntrack entry of a connection, as a probe found it.

use crate::{
    record::ConntrackEntry,
    sink::{clock::Tick, snapshot::timeline::Timeline},
    sync::IgnorePoison,
};
use std::sync::{Mutex, MutexGuard, OnceLock};

/// The newest entry of a connection. Takes no more than a pointer and a flag while there is none.
#[derive(Debug, Default)]
pub(crate) struct ConntrackCell(OnceLock<Box<Mutex<Captured>>>);

/// An entry, with when it was captured.
#[derive(Debug)]
struct Captured {
    at: Tick,
    entry: ConntrackEntry,
    /// When an entry was first found to be gone.
    lost: Option<Tick>,
}

impl ConntrackCell {
    pub(super) fn put(&self, at: Tick, entry: ConntrackEntry) {
        let Some(kept) = self.0.get() else {
            // If another thread was faster, its entry stays: it is as new as this one.
            let _ = self.0.set(Box::new(Mutex::new(Captured { at, entry, lost: None })));
            return;
        };
        let mut kept = lock(kept);
        *kept = Captured { at, entry, lost: kept.lost };
    }

    /// Records that the entry is gone. Does nothing if there was none.
    pub(super) fn lose(&self, at: Tick) {
        if let Some(kept) = self.0.get() {
            lock(kept).lost.get_or_insert(at);
        }
    }

    /// Passes the entry to `look`; returns `None` if there is none.
    #[cfg(all(feature = "conntrack", target_os = "linux"))]
    pub(super) fn with<R>(&self, look: impl FnOnce(&ConntrackEntry) -> R) -> Option<R> {
        Some(look(&lock(self.0.get()?).entry))
    }

    /// Returns the heap memory that the entry takes.
    pub(in crate::sink) fn heap_bytes(&self) -> usize {
        self.0.get().map_or(0, |_| size_of::<Mutex<Captured>>())
    }

    pub(in crate::sink) fn export(&self, times: &Timeline) -> Option<Box<ConntrackEntry>> {
        let captured = lock(self.0.get()?);
        let (captured_at, lost_at) = (times.at(captured.at), times.at(captured.lost));
        Some(Box::new(ConntrackEntry { captured_at, lost_at, ..captured.entry.clone() }))
    }
}

fn lock(captured: &Mutex<Captured>) -> MutexGuard<'_, Captured> {
    captured.lock().ignore_poison()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_cell_is_small() {
        assert!(size_of::<ConntrackCell>() <= 16);
    }

    #[test]
    fn the_newest_entry_is_kept() {
        let (cell, times) = (ConntrackCell::default(), Timeline::test());
        assert!(cell.export(&times).is_none());
        for mark in [1, 2] {
            cell.put(Tick::from_ticks(mark.into()), ConntrackEntry { mark, ..ConntrackEntry::default() });
        }
        let entry = cell.export(&times).unwrap();
        assert_eq!((entry.mark, entry.captured_at), (2, times.at(Tick::from_ticks(2))));
    }

    #[test]
    fn the_first_loss_is_kept() {
        let (cell, times) = (ConntrackCell::default(), Timeline::test());
        cell.lose(Tick::from_ticks(1));
        cell.put(Tick::from_ticks(2), ConntrackEntry::default());
        assert!(cell.export(&times).unwrap().lost_at.is_undefined());
        cell.lose(Tick::from_ticks(3));
        cell.put(Tick::from_ticks(4), ConntrackEntry::default());
        cell.lose(Tick::from_ticks(5));
        assert_eq!(cell.export(&times).unwrap().lost_at, times.at(Tick::from_ticks(3)));
    }
}
