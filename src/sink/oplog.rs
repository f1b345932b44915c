//! The operations of one connection: one writer, any number of readers, no lock between them.
//!
//! The first operations lie in a chain of segments that only grows, the newest in a ring of segments that are
//! not linked. A lock covers the ring's list; the writer takes it once in hundreds of operations.

use super::{clock::Tick, core::Timeline, settings::Retention};
use crate::{
    record::{Chain, Cursor, Delta, EncodedOps, OpError, Rare, RawOp, Segment, SocketOps, SocketTrace, kind},
    sync::{Mutex, MutexGuard},
};
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, PoisonError},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpKind {
    Read,
    Write,
}

#[derive(Debug)]
pub(crate) struct OpLog {
    head: Arc<Segment>,
    rest: Mutex<Rest>,
    limits: Retention,
}

#[derive(Debug, Default)]
struct Rest {
    newest: VecDeque<Arc<Segment>>,
    dropped: u64,
    texts: Vec<Box<str>>,
}

/// By their words. A connection of a few operations stays small, one of many allocates rarely.
#[cfg(not(loom))]
const SEGMENTS: [fn(Delta) -> Arc<Segment>; 6] = [
    Segment::new::<16>,
    Segment::new::<32>,
    Segment::new::<64>,
    Segment::new::<128>,
    Segment::new::<256>,
    Segment::new::<512>,
];
#[cfg(loom)]
const SEGMENTS: [fn(Delta) -> Arc<Segment>; 2] = [Segment::new::<1>, Segment::new::<2>];
const LARGEST: usize = SEGMENTS.len() - 1;
/// Errors whose text must be kept end a connection as a rule: there are not many.
const MAX_TEXTS: usize = 16;

impl OpLog {
    pub(crate) fn new(limits: Retention) -> Self {
        OpLog { head: SEGMENTS[0](Delta::default()), rest: Mutex::default(), limits }
    }

    /// What is there now, shared rather than copied. What is written later does not show in it.
    pub(crate) fn export(&self, times: &Timeline) -> SocketTrace {
        let rest = self.rest();
        let head = Chain::capture(self.head.clone());
        let mut tail = rest.newest.iter().cloned().map(Chain::capture).collect::<Vec<_>>();
        let mut excess = tail.iter().map(Chain::len).sum::<u64>().saturating_sub(self.limits.newest_ops);
        let dropped = rest.dropped + excess;
        for chain in &mut tail {
            let here = excess.min(chain.len());
            *chain = std::mem::take(chain).skip(here);
            excess -= here;
        }
        let dropped_after = if dropped > 0 { head.len() } else { 0 };
        let (clock, texts) = (times.clock.clone(), Rare::from(rest.texts.clone()));
        let socket_ops = SocketOps::encoded(EncodedOps { head, tail: tail.into(), clock, texts });
        SocketTrace { socket_ops, dropped_ops: dropped, dropped_after }
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn error_code(&self, error: &io::Error) -> u32 {
        let known = OpError::of(error).unwrap_or_else(|| {
            let mut rest = self.rest();
            if rest.texts.len() < MAX_TEXTS {
                rest.texts.push(error.to_string().into());
            }
            OpError::Text(rest.texts.len() as u32 - 1)
        });
        known.code()
    }
}

/// The owner's side, plain fields.
#[derive(Debug, Default)]
pub(crate) struct OpWriter {
    segment: Option<Arc<Segment>>,
    /// Its place among [`SEGMENTS`].
    size: usize,
    cursor: Cursor,
    /// Operations that still belong to the first.
    first_left: u64,
    in_ring: bool,
}

impl OpWriter {
    pub(crate) fn new(log: Option<&OpLog>) -> Self {
        log.map_or_else(OpWriter::default, |log| OpWriter {
            segment: Some(log.head.clone()),
            first_left: log.limits.first_ops,
            ..OpWriter::default()
        })
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.segment.is_some()
    }

    /// Writes an operation that returns just now.
    #[inline]
    pub(crate) fn push(
        &mut self,
        log: &OpLog,
        op: OpKind,
        call: Tick,
        ret: Tick,
        result: Result<usize, &io::Error>,
    ) {
        let (len, kind) = match (op, result) {
            (OpKind::Read, Ok(n)) => (n.min(u32::MAX as usize) as u32, kind::READ),
            (OpKind::Write, Ok(n)) => (n.min(u32::MAX as usize) as u32, kind::WRITE),
            (OpKind::Read, Err(error)) => (log.error_code(error), kind::READ_ERROR),
            (OpKind::Write, Err(error)) => (log.error_code(error), kind::WRITE_ERROR),
        };
        let op = RawOp { call: call.0, ret: ret.0.max(call.0), len, kind };
        let fits = self.in_ring || self.first_left > 0;
        if fits && self.segment.as_deref().is_some_and(|segment| self.cursor.push(segment, &op)) {
            self.first_left = self.first_left.saturating_sub(1);
            return;
        }
        self.next_segment(log, &op);
    }

    #[cold]
    #[inline(never)]
    fn next_segment(&mut self, log: &OpLog, op: &RawOp) {
        let Some(full) = &self.segment else { return };
        let base = self.cursor.delta();
        let next = if self.first_left > 0 {
            self.size = (self.size + 1).min(LARGEST);
            let next = SEGMENTS[self.size](base);
            full.link(next.clone());
            next
        } else {
            let mut rest = log.rest();
            if log.limits.newest_ops == 0 {
                rest.dropped += 1;
                return;
            }
            let mut kept = rest.newest.iter().map(|segment| segment.ops()).sum::<u64>();
            while let Some(oldest) = rest.newest.front().map(|oldest| oldest.ops())
                && kept - oldest >= log.limits.newest_ops
            {
                rest.newest.pop_front();
                rest.dropped += oldest;
                kept -= oldest;
            }
            self.in_ring = true;
            let next = SEGMENTS[LARGEST](base);
            rest.newest.push_back(next.clone());
            next
        };
        self.cursor = Cursor::new(base);
        let written = self.cursor.push(&next, op);
        debug_assert!(written, "a fresh segment has room for any operation");
        self.first_left = self.first_left.saturating_sub(1);
        self.segment = Some(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(limits: Retention, ops: u64) -> (OpLog, SocketTrace) {
        let log = OpLog::new(limits);
        let mut writer = OpWriter::new(Some(&log));
        for at in 1..=ops {
            writer.push(&log, OpKind::Write, Tick(at * 10), Tick(at * 10 + 5), Ok(at as usize));
        }
        let trace = log.export(&Timeline::test());
        (log, trace)
    }

    fn lens(trace: &SocketTrace) -> Vec<u64> {
        trace.socket_ops.iter().map(|op| u64::from(op.data_len)).collect()
    }

    #[test]
    fn the_first_and_the_newest_are_kept() {
        for ops in [1, 5, 99, 100, 101, 300, 301, 1_000, 5_000] {
            let (_, trace) = written(Retention::bounded().socket_ops(100, 200), ops);
            let expected: Vec<u64> =
                (1..=ops).filter(|at| *at <= 100 || *at > ops.saturating_sub(200)).collect();
            assert_eq!(lens(&trace), expected, "{ops}");
            assert_eq!(trace.dropped_ops, ops - expected.len() as u64);
            assert_eq!(trace.dropped_after, if ops > 300 { 100 } else { 0 });
        }
    }

    #[test]
    fn without_newest_only_the_first_stay() {
        let (_, trace) = written(Retention::bounded().socket_ops(10, 0), 50);
        assert_eq!((lens(&trace), trace.dropped_ops), ((1..=10).collect(), 40));
    }

    #[test]
    fn unbounded_keeps_all() {
        let (_, trace) = written(Retention::unbounded(), 100_000);
        assert_eq!((trace.socket_ops.len(), trace.dropped_ops), (100_000, 0));
    }

    #[test]
    fn errors_have_their_text() {
        let log = OpLog::new(Retention::bounded());
        let mut writer = OpWriter::new(Some(&log));
        for error in
            [io::Error::from_raw_os_error(104), io::Error::other("mine"), io::ErrorKind::TimedOut.into()]
        {
            writer.push(&log, OpKind::Read, Tick(1), Tick(2), Err(&error));
            let trace = log.export(&Timeline::test());
            let last = trace.socket_ops.iter().last().unwrap();
            assert_eq!((last.return_err, last.data_len), (error.to_string(), 0));
        }
    }
}
