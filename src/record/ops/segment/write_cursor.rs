//! [`WriteCursor`]: appends operations to a segment.

use super::Segment;
use crate::record::ops::codec::{DeltaCodec, RawOp, encode::Encoded};
use std::sync::atomic::Ordering;

/// The position of the writer in a segment. A segment has at most one writer.
#[derive(Debug, Default)]
pub(crate) struct WriteCursor {
    delta: DeltaCodec,
    words: u32,
    ops: u32,
}

impl WriteCursor {
    /// Creates a cursor at the beginning of a segment with this base.
    pub(crate) fn new(base: DeltaCodec) -> Self {
        WriteCursor { delta: base, words: 0, ops: 0 }
    }

    /// Appends an operation and publishes it. Returns `false` and changes nothing if the segment has no room for it.
    /// Neither allocates nor waits.
    #[inline]
    pub(crate) fn push(&mut self, segment: &Segment, op: &RawOp) -> bool {
        let mut delta = self.delta;
        let encoded = delta.encode(op);
        match encoded {
            Encoded::One(word) => {
                let Some(slot) = segment.words.get(self.words as usize) else { return false };
                slot.store(word, Ordering::Relaxed);
                self.words += 1;
            }
            Encoded::Two(_) | Encoded::Three(_) => {
                if !self.store(segment, encoded.words()) {
                    return false;
                }
            }
        }
        self.delta = delta;
        self.ops += 1;
        segment.published.store(u64::from(self.ops) << 32 | u64::from(self.words), Ordering::Release);
        true
    }

    /// Stores an operation of several words. Kept out of line, since nearly all operations take one.
    #[inline(never)]
    fn store(&mut self, segment: &Segment, words: &[u64]) -> bool {
        let begin = self.words as usize;
        let Some(slots) = segment.words.get(begin..begin + words.len()) else { return false };
        for (slot, word) in slots.iter().zip(words) {
            slot.store(*word, Ordering::Relaxed);
        }
        self.words += words.len() as u32;
        true
    }

    /// Returns the state that the next operation is encoded with: the base of the next segment.
    pub(crate) fn delta(&self) -> DeltaCodec {
        self.delta
    }
}

#[cfg(test)]
pub(in crate::record) mod tests {
    use super::*;
    use crate::record::ops::{
        codec::{OpKind, encode::tests::ops},
        segment::SegmentChain,
    };
    use proptest::prelude::*;
    use std::sync::Arc;

    /// A writer that, like a sink, starts a new segment when one is full.
    pub(in crate::record) struct Writer {
        pub(in crate::record) first: Arc<Segment>,
        last: Arc<Segment>,
        cursor: WriteCursor,
        new: NewSegment,
    }

    type NewSegment = fn(DeltaCodec) -> Arc<Segment>;

    impl Writer {
        pub(in crate::record) fn new(new: NewSegment) -> Self {
            let first = new(DeltaCodec::default());
            Writer { last: first.clone(), first, cursor: WriteCursor::default(), new }
        }

        pub(in crate::record) fn push(&mut self, op: &RawOp) {
            if self.cursor.push(&self.last, op) {
                return;
            }
            let next = (self.new)(self.cursor.delta());
            self.last.link(next.clone());
            self.cursor = WriteCursor::new(self.cursor.delta());
            self.last = next;
            assert!(self.cursor.push(&self.last, op));
            assert_eq!(self.cursor.ops, 1);
        }
    }

    const SIZES: [NewSegment; 6] = [
        Segment::new::<3>,
        Segment::new::<4>,
        Segment::new::<5>,
        Segment::new::<7>,
        Segment::new::<12>,
        Segment::new::<19>,
    ];

    proptest! {
        #[test]
        fn chains_are_read_as_they_were_captured(ops in ops(60), size in 0..SIZES.len(), at: prop::sample::Index, skip in 0u64..70) {
            let mut writer = Writer::new(SIZES[size]);
            let at = at.index(ops.len() + 1);
            ops[..at].iter().for_each(|op| writer.push(op));
            let before = SegmentChain::capture(writer.first.clone());
            ops[at..].iter().for_each(|op| writer.push(op));
            let after = SegmentChain::capture(writer.first.clone());
            prop_assert_eq!(before.iter().collect::<Vec<_>>(), &ops[..at]);
            prop_assert_eq!(after.iter().collect::<Vec<_>>(), &ops[..]);
            prop_assert_eq!(after.len(), ops.len() as u64);
            let newest = after.skip(skip);
            prop_assert_eq!(newest.iter().collect::<Vec<_>>(), &ops[ops.len().min(skip as usize)..]);
        }
    }

    #[test]
    fn a_full_segment_rejects_operations_and_is_unchanged() {
        let segment = &*Segment::new::<4>(DeltaCodec::default());
        let mut cursor = WriteCursor::default();
        let small = RawOp { call: 10, ret: 20, len: 1, kind: OpKind::Read };
        let large = RawOp { call: 0, ret: u64::MAX, len: u32::MAX, kind: OpKind::Write };
        assert!(cursor.push(segment, &small) && cursor.push(segment, &small));
        let (ops, delta) = (cursor.ops, cursor.delta());
        assert!(!cursor.push(segment, &large));
        assert_eq!((cursor.ops, cursor.delta(), segment.ops()), (ops, delta, 2));
        assert!(cursor.push(segment, &small) && cursor.push(segment, &small));
        assert!(!cursor.push(segment, &small));
        assert_eq!(segment.ops(), 4);
    }

    #[test]
    fn a_million_segments_are_dropped_without_recursion() {
        let mut writer = Writer::new(Segment::new::<1>);
        for at in 0..1_000_000 {
            writer.push(&RawOp { call: at, ret: at, len: 0, kind: OpKind::Read });
        }
        let chain = SegmentChain::capture(writer.first.clone());
        drop(writer);
        assert_eq!(chain.iter().count(), 1_000_000);
        drop(chain);
    }

    #[test]
    fn readers_see_complete_operations_while_a_writer_appends() {
        const OPS: u64 = 20_000;
        const KINDS: [OpKind; 4] = [OpKind::Read, OpKind::Write, OpKind::ReadError, OpKind::WriteError];
        let op = |at: u64| {
            // Every third operation takes three words.
            let call = if at.is_multiple_of(3) { at.rotate_right(20) } else { at };
            RawOp {
                call,
                ret: call.saturating_add(at << (at % 40)),
                len: at as u32,
                kind: KINDS[(at % 4) as usize],
            }
        };
        let mut writer = Writer::new(Segment::new::<64>);
        let first = writer.first.clone();
        std::thread::scope(|scope| {
            scope.spawn(move || (0..OPS).for_each(|at| writer.push(&op(at))));
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut seen = 0;
                    while seen < OPS {
                        let chain = SegmentChain::capture(first.clone());
                        assert!(chain.len() >= seen);
                        seen = chain.len();
                        let from = seen.saturating_sub(500);
                        let newest = chain.skip(from);
                        assert!(newest.iter().eq((from..seen).map(op)));
                    }
                });
            }
        });
    }
}
