//! The log of a connection's reads and writes: one writer, any number of readers, no lock between them.
//!
//! The first operations are in a chain of segments that only grows, the newest in a ring of segments that are not
//! linked. A lock covers the list of the ring; the writer takes it once in hundreds of operations. One operation takes
//! 8.2 bytes, and no allocation except for each new segment.

use crate::{
    record::{BoxedOrEmpty, EncodedOps, Segment, SegmentChain, SocketOps, SocketTrace},
    sink::{config::Retention, snapshot::timeline::Timeline},
    sync::{AtomicU64, IgnorePoison, Mutex, MutexGuard},
};
use std::{collections::VecDeque, sync::Arc};

/// The reads and writes of a connection, as far as they are kept.
pub(crate) struct OpLog {
    /// The first segment. It is part of the log, so that a short connection needs no other.
    pub(super) head: Segment<[AtomicU64; HEAD_WORDS]>,
    tail: Mutex<Option<Box<Tail>>>,
}

/// The part of a log that only a connection of many operations has, or one with an error that has no number.
#[derive(Debug, Default)]
pub(super) struct Tail {
    pub(super) newest: VecDeque<Arc<Segment>>,
    pub(super) dropped: u64,
    pub(super) texts: Vec<Box<str>>,
}

/// The number of words of the first segment.
const HEAD_WORDS: usize = if cfg!(loom) { 1 } else { 12 };

impl OpLog {
    #[cfg(any(loom, feature = "_record_conns"))]
    pub(crate) fn new() -> Self {
        OpLog { head: Segment::inline(Default::default()), tail: Mutex::new(None) }
    }

    /// Returns what has been written so far. It is shared, not copied, except for the first segment; later operations
    /// do not show in it.
    pub(crate) fn export(&self, limits: &Retention, times: &Timeline) -> SocketTrace {
        let overflow = self.tail();
        let head = self.head.capture();
        let newest = overflow.iter().flat_map(|tail| &tail.newest).cloned();
        let mut tail = newest.map(SegmentChain::capture).collect::<Vec<_>>();
        let mut excess = tail.iter().map(SegmentChain::len).sum::<u64>().saturating_sub(limits.newest_ops);
        let dropped = overflow.as_ref().map_or(0, |tail| tail.dropped) + excess;
        for chain in &mut tail {
            let here = excess.min(chain.len());
            *chain = std::mem::take(chain).skip(here);
            excess -= here;
        }
        let dropped_after = if dropped > 0 { head.len() } else { 0 };
        let texts =
            overflow.as_ref().map_or_else(BoxedOrEmpty::new, |tail| BoxedOrEmpty::from(tail.texts.clone()));
        let clock = times.clock.clone();
        let socket_ops = SocketOps::encoded(EncodedOps { head, tail: tail.into(), clock, texts });
        SocketTrace { socket_ops, dropped_ops: dropped, dropped_after }
    }

    /// Returns the heap memory that the log takes.
    pub(in crate::sink) fn heap_bytes(&self) -> usize {
        let mut bytes = 0;
        let mut next = Segment::next(&self.head);
        while let Some(segment) = next {
            bytes += segment.bytes();
            next = segment.next();
        }
        let tail = self.tail();
        let Some(tail) = &*tail else { return bytes };
        let newest = tail.newest.iter().map(|segment| segment.bytes()).sum::<usize>();
        let texts = tail.texts.iter().map(|text| text.len()).sum::<usize>();
        let lists = tail.newest.capacity() * size_of::<Arc<Segment>>()
            + tail.texts.capacity() * size_of::<Box<str>>();
        bytes + size_of::<Tail>() + newest + texts + lists
    }

    pub(super) fn tail(&self) -> MutexGuard<'_, Option<Box<Tail>>> {
        self.tail.lock().ignore_poison()
    }
}
