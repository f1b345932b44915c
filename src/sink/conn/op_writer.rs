//! [`OpWriter`]: writes the reads and writes of a connection into its log.

use super::op_log::OpLog;
use crate::{
    record::{
        DeltaCodec, OpError, OpKind, RawOp, Segment, WriteCursor,
        limits::{MAX_ERROR_BYTES, limit},
    },
    sink::{clock::Tick, config::Retention},
};
use std::{io, sync::Arc};

/// Constructors of the segments that follow, by their number of words: small ones first, so that a connection of a few
/// operations stays small, then large ones, so that one of many allocates rarely.
#[cfg(not(loom))]
const SEGMENTS: [fn(DeltaCodec) -> Arc<Segment>; 5] =
    [Segment::new::<32>, Segment::new::<64>, Segment::new::<128>, Segment::new::<256>, Segment::new::<512>];
#[cfg(loom)]
const SEGMENTS: [fn(DeltaCodec) -> Arc<Segment>; 2] = [Segment::new::<2>, Segment::new::<2>];
const LARGEST_SEGMENT: usize = SEGMENTS.len() - 1;
/// The number of error texts that are kept. An error whose text must be kept ends a connection as a rule, so there are
/// few.
const MAX_TEXTS: usize = 16;

/// The writer's side of a log.
#[derive(Debug)]
pub(crate) struct OpWriter {
    /// The segment that is being written, unless it is the first.
    segment: Option<Arc<Segment>>,
    /// The index of the next segment's constructor in [`SEGMENTS`].
    size: usize,
    cursor: WriteCursor,
    /// How many more operations belong to the first ones.
    first_left: u64,
    newest_ops: u64,
    in_ring: bool,
}

impl OpWriter {
    pub(crate) fn new(limits: &Retention) -> Self {
        let Retention { first_ops: first_left, newest_ops, .. } = *limits;
        OpWriter {
            segment: None,
            size: 0,
            cursor: WriteCursor::default(),
            first_left,
            newest_ops,
            in_ring: false,
        }
    }

    /// Writes an operation that returned just now.
    #[inline]
    pub(crate) fn push(
        &mut self,
        log: &OpLog,
        kind: OpKind,
        call: Tick,
        ret: Tick,
        result: Result<usize, &io::Error>,
    ) {
        let (len, kind) = match result {
            Ok(n) => (n.min(u32::MAX as usize) as u32, kind),
            Err(error) => (log.error_code(error), kind.failed()),
        };
        let op = RawOp { call: call.get(), ret: ret.max(call).get(), len, kind };
        let fits = self.in_ring || self.first_left > 0;
        let segment = self.segment.as_deref().unwrap_or(&log.head);
        if fits && self.cursor.push(segment, &op) {
            self.first_left = self.first_left.saturating_sub(1);
            return;
        }
        self.next_segment(log, &op);
    }

    #[cold]
    #[inline(never)]
    fn next_segment(&mut self, log: &OpLog, op: &RawOp) {
        let full = self.segment.as_deref().unwrap_or(&log.head);
        let base = self.cursor.delta();
        let next = if self.first_left > 0 {
            let next = SEGMENTS[self.size](base);
            self.size = (self.size + 1).min(LARGEST_SEGMENT);
            full.link(next.clone());
            next
        } else {
            let mut tail = log.tail();
            let tail = tail.get_or_insert_default();
            if self.newest_ops == 0 {
                tail.dropped += 1;
                return;
            }
            let mut kept = tail.newest.iter().map(|segment| segment.ops()).sum::<u64>();
            while let Some(oldest) = tail.newest.front().map(|oldest| oldest.ops())
                && kept - oldest >= self.newest_ops
            {
                tail.newest.pop_front();
                tail.dropped += oldest;
                kept -= oldest;
            }
            self.in_ring = true;
            let next = SEGMENTS[LARGEST_SEGMENT](base);
            tail.newest.push_back(next.clone());
            next
        };
        self.cursor = WriteCursor::new(base);
        let written = self.cursor.push(&next, op);
        debug_assert!(written, "a fresh segment has room for any operation");
        self.first_left = self.first_left.saturating_sub(1);
        self.segment = Some(next);
    }
}

impl OpLog {
    #[cold]
    fn error_code(&self, error: &io::Error) -> u32 {
        let known = OpError::from_io(error).unwrap_or_else(|| {
            let mut tail = self.tail();
            let tail = tail.get_or_insert_default();
            if tail.texts.len() < MAX_TEXTS {
                tail.texts.push(limit(error.to_string(), MAX_ERROR_BYTES).into());
            }
            OpError::Text(tail.texts.len() as u32 - 1)
        });
        known.code()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{record::SocketTrace, sink::snapshot::timeline::Timeline};

    fn written(limits: Retention, ops: u64) -> (OpLog, SocketTrace) {
        let (log, mut writer) = (OpLog::new(), OpWriter::new(&limits));
        for at in 1..=ops {
            writer.push(
                &log,
                OpKind::Write,
                Tick::from_ticks(at * 10),
                Tick::from_ticks(at * 10 + 5),
                Ok(at as usize),
            );
        }
        let trace = log.export(&limits, &Timeline::test());
        (log, trace)
    }

    fn lens(trace: &SocketTrace) -> Vec<u64> {
        trace.socket_ops.iter().map(|op| u64::from(op.data_len)).collect()
    }

    #[test]
    fn the_first_and_the_newest_operations_are_kept() {
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
    fn with_room_for_none_of_the_newest_only_the_first_are_kept() {
        let (_, trace) = written(Retention::bounded().socket_ops(10, 0), 50);
        assert_eq!((lens(&trace), trace.dropped_ops), ((1..=10).collect(), 40));
    }

    #[test]
    fn an_unbounded_log_keeps_all_operations() {
        let (_, trace) = written(Retention::unbounded(), 100_000);
        assert_eq!((trace.socket_ops.len(), trace.dropped_ops), (100_000, 0));
    }

    #[test]
    fn errors_have_their_text() {
        let limits = Retention::bounded();
        let (log, mut writer) = (OpLog::new(), OpWriter::new(&limits));
        for error in
            [io::Error::from_raw_os_error(104), io::Error::other("mine"), io::ErrorKind::TimedOut.into()]
        {
            writer.push(&log, OpKind::Read, Tick::from_ticks(1), Tick::from_ticks(2), Err(&error));
            let trace = log.export(&limits, &Timeline::test());
            let last = trace.socket_ops.iter().last().unwrap();
            assert_eq!((last.return_err, last.data_len), (error.to_string(), 0));
        }
    }
}
