//! [`KernelTimesLog`]: a bounded log of the kernel's time stamps of a sampled connection.

use crate::{
    record::{KernelTimes, ReadTimes, WriteTimes},
    sink::{clock::Tick, registry::end::End, snapshot::timeline::Timeline},
    sync::IgnorePoison,
};
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};

/// A bounded log of the stamps of one connection. A long connection keeps the first and the newest.
#[derive(Debug)]
pub(in crate::sink) struct KernelTimesLog(Mutex<Entries>);

#[derive(Debug)]
struct Entries {
    writes: FirstAndNewest<Write>,
    reads: FirstAndNewest<Read>,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    sent_bytes: u64,
    written: Tick,
    scheduled: Option<Tick>,
    sent: Option<Tick>,
    acked: Option<Tick>,
}

#[derive(Clone, Copy, Debug)]
struct Read {
    recv_bytes: u64,
    received: Tick,
    /// `None` if the connection was closed before the bytes were read.
    read: Option<Tick>,
}

/// A list of which the first half and the newest half are kept.
#[derive(Debug)]
struct FirstAndNewest<T> {
    first: Vec<T>,
    newest: VecDeque<T>,
    half: usize,
    dropped: u64,
}

/// How far a byte that was written has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendStage {
    /// It was passed to the packet scheduler.
    Scheduled,
    /// It was passed to the driver of the network interface.
    Sent,
    /// The peer has acknowledged it.
    Acked,
}

impl KernelTimesLog {
    /// Creates a log of at most `max` writes and as many reads.
    pub(super) fn new(max: usize) -> Self {
        let (writes, reads) = (FirstAndNewest::new(max), FirstAndNewest::new(max));
        KernelTimesLog(Mutex::new(Entries { writes, reads }))
    }

    /// Adds a write, with which `sent_bytes` have been sent in all.
    pub(super) fn wrote(&self, sent_bytes: u64, written: Tick) {
        let write = Write { sent_bytes, written, scheduled: None, sent: None, acked: None };
        self.entries().writes.push(write);
    }

    /// Adds a stamp to the write that ended with this byte. Ignores it if that write began before `valid_from`.
    pub(super) fn stamped(&self, sent_bytes: u64, stage: SendStage, at: Tick, valid_from: Tick) {
        let mut entries = self.entries();
        let Some(write) = entries.writes.newest_mut(|write| write.sent_bytes <= sent_bytes) else { return };
        if write.sent_bytes != sent_bytes || write.written < valid_from {
            return;
        }
        let place = match stage {
            SendStage::Scheduled => &mut write.scheduled,
            SendStage::Sent => &mut write.sent,
            SendStage::Acked => &mut write.acked,
        };
        place.get_or_insert(at); // bytes that are sent again are stamped again
    }

    /// Adds a read of bytes before which `recv_bytes` had been received. `read` is `None` if the connection was closed
    /// instead.
    pub(super) fn read(&self, recv_bytes: u64, received: Tick, read: Option<Tick>) {
        self.entries().reads.push(Read { recv_bytes, received, read });
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().ignore_poison()
    }

    /// Returns what has been stamped until the end of the connection, or so far; `None` if nothing has.
    pub(in crate::sink) fn export(&self, end: Option<&End>, times: &Timeline) -> Option<Box<KernelTimes>> {
        let end = end.map(|end| end.at);
        let Entries { writes, reads } = &*self.entries();
        if !writes.iter().any(Write::is_stamped) && reads.iter().next().is_none() {
            return None;
        }
        Some(Box::new(KernelTimes {
            writes: writes.iter().filter_map(|write| write.export(end, times)).collect(),
            reads: reads.iter().filter_map(|read| read.export(end, times)).collect(),
            dropped_writes: writes.dropped,
            dropped_reads: reads.dropped,
            dropped_after: if writes.dropped.max(reads.dropped) > 0 { writes.half as u64 } else { 0 },
        }))
    }

    /// Returns the memory that the log takes, itself included.
    pub(super) fn heap_bytes(&self) -> usize {
        let Entries { writes, reads } = &*self.entries();
        size_of::<KernelTimesLog>() + writes.heap_bytes() + reads.heap_bytes()
    }
}

impl Write {
    fn is_stamped(&self) -> bool {
        self.scheduled.or(self.sent).or(self.acked).is_some()
    }

    /// Returns the record; `None` if the write came after the end, as another thread may have ended the connection
    /// meanwhile. Stages are put in order, because their conversion may be off by some microseconds.
    fn export(&self, end: Option<Tick>, times: &Timeline) -> Option<WriteTimes> {
        let in_time = |at: &Tick| is_in_time(*at, end);
        let scheduled = self.scheduled.map(|at| at.max(self.written));
        let sent = self.sent.map(|at| at.max(self.written).max_some(scheduled));
        let acked = self.acked.map(|at| at.max(self.written).max_some(scheduled).max_some(sent));
        in_time(&self.written).then(|| WriteTimes {
            sent_bytes: self.sent_bytes,
            written_at: times.at(self.written),
            scheduled_at: times.at(scheduled.filter(in_time)),
            sent_at: times.at(sent.filter(in_time)),
            acked_at: times.at(acked.filter(in_time)),
        })
    }
}

impl Read {
    fn export(&self, end: Option<Tick>, times: &Timeline) -> Option<ReadTimes> {
        is_in_time(self.read.unwrap_or(self.received), end).then(|| ReadTimes {
            recv_bytes: self.recv_bytes,
            received_at: times.at(self.received),
            read_at: times.at(self.read),
        })
    }
}

fn is_in_time(at: Tick, end: Option<Tick>) -> bool {
    end.is_none_or(|end| at <= end)
}

impl<T> FirstAndNewest<T> {
    fn new(max: usize) -> Self {
        FirstAndNewest { first: Vec::new(), newest: VecDeque::new(), half: max.div_ceil(2), dropped: 0 }
    }

    fn push(&mut self, item: T) {
        if self.first.len() < self.half {
            self.first.push(item);
            return;
        }
        if self.newest.len() >= self.half {
            self.dropped += 1;
            if self.newest.pop_front().is_none() {
                return; // nothing is kept
            }
        }
        self.newest.push_back(item);
    }

    fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.newest)
    }

    /// Returns the newest item for which the predicate holds.
    fn newest_mut(&mut self, predicate: impl Fn(&T) -> bool) -> Option<&mut T> {
        self.first.iter_mut().chain(&mut self.newest).rev().find(|item| predicate(item))
    }

    fn heap_bytes(&self) -> usize {
        (self.first.capacity() + self.newest.capacity()) * size_of::<T>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_newest_are_kept() {
        let kept = |max: usize, count: u64| {
            let mut list = FirstAndNewest::new(max);
            (1..=count).for_each(|item| list.push(item));
            (list.iter().copied().collect::<Vec<_>>(), list.dropped)
        };
        assert_eq!(kept(4, 3), (vec![1, 2, 3], 0));
        assert_eq!(kept(4, 9), (vec![1, 2, 8, 9], 5));
        assert_eq!(kept(0, 2), (vec![], 2));
    }

    #[test]
    fn stages_are_in_order() {
        let times = Timeline::test();
        let at = |ms: u64| Tick::from_ticks(u64::from(u32::MAX) * 1_000_000_000 + ms * 1_000_000);
        let write = Write {
            sent_bytes: 7,
            written: at(10),
            scheduled: Some(at(9)),
            sent: Some(at(12)),
            acked: Some(at(11)),
        };
        let write = write.export(None, &times).unwrap();
        assert_eq!(write.scheduled_at, write.written_at);
        assert_eq!(write.acked_at, write.sent_at);
        assert!(!write.sent_at.is_undefined());
    }
}
