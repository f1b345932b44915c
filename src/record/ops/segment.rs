//! Lock-free storage of encoded operations: one thread writes, any thread reads.
//!
//! A connection writes its operations into segments of fixed size. A full one is linked to its successor and never
//! changes again. A snapshot captures the chain without copying it, except for the first segment: that one is a field
//! of the connection's log ([`Segment::inline`]), so a snapshot cannot share it.

use std::fmt;
use std::sync::{Arc, atomic::Ordering};

use super::codec::{DeltaCodec, RawOp};
use crate::sync::{AtomicU64, OnceLock};

#[cfg(any(loom, feature = "connect"))]
pub(super) mod write_cursor;

/// A fixed number of words with encoded operations. Can be decoded by itself: no operation spans two segments.
pub(crate) struct Segment<W: ?Sized = [AtomicU64]> {
    /// The number of complete operations (upper half) and of words (lower half). Stored with Release after the words
    /// themselves, so that a reader who loads it with Acquire sees them.
    published: AtomicU64,
    /// The state of the codec before the first operation.
    base: DeltaCodec,
    next: OnceLock<Arc<Segment>>,
    words: W,
}

impl Segment {
    /// Creates an empty segment of `N` words whose first operation is encoded relative to `base`.
    ///
    /// An operation takes up to three words. A segment of fewer words may have no room for a single one.
    pub(crate) fn new<const N: usize>(base: DeltaCodec) -> Arc<Segment> {
        Arc::new(Segment::<[AtomicU64; N]>::inline(base))
    }

    /// Sets the next segment. Nothing may be written to this one afterwards. Only the first call has an effect.
    pub(crate) fn link(&self, next: Arc<Segment>) {
        let _ = self.next.set(next);
    }

    /// Returns the memory in use in bytes, including the counters of the `Arc`.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self) + 2 * size_of::<usize>()
    }

    pub(crate) fn next(&self) -> Option<&Arc<Segment>> {
        self.next.get()
    }

    /// Returns the number of complete operations.
    pub(crate) fn ops(&self) -> u64 {
        self.published().0
    }

    fn published(&self) -> (u64, usize) {
        let both = self.published.load(Ordering::Acquire);
        (both >> 32, both as u32 as usize)
    }
}

impl<const N: usize> Segment<[AtomicU64; N]> {
    /// Creates an empty segment by value, as a field of another type. It saves a short connection an allocation.
    pub(crate) fn inline(base: DeltaCodec) -> Self {
        let words = std::array::from_fn(|_| AtomicU64::new(0));
        Segment { published: AtomicU64::new(0), base, next: OnceLock::new(), words }
    }

    /// Captures the complete operations: a copy of those in this segment, and the segments that follow. Later ones do
    /// not appear.
    pub(crate) fn capture(&self) -> SegmentChain {
        // Loaded before `published`. If there is a successor, this segment is full and all of it is copied. In the
        // other order the chain could lack operations in the middle: those written after `published` was loaded, before
        // a successor was linked.
        let next = self.next.get().cloned();
        let (ops, words) = Segment::published(self);
        if ops == 0 && next.is_none() {
            return SegmentChain::default();
        }
        // A connection of few operations gets a small copy: a trace may live long.
        let copy = if words <= 4 { Segment::new::<4>(self.base) } else { Segment::new::<N>(self.base) };
        for (from, to) in self.words.iter().zip(&copy.words).take(words) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        copy.published.store(ops << 32 | words as u64, Ordering::Relaxed);
        if let Some(next) = next {
            copy.link(next);
        }
        SegmentChain::capture(copy)
    }
}

impl<W: ?Sized> Drop for Segment<W> {
    /// Drops the successors in a loop, since recursion would overflow the stack.
    ///
    /// The loop ends at a segment that has another owner. If that owner gives it up at the same time, the drop of the
    /// last reference calls this again, one call deeper.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut segment) = next {
            next = Arc::get_mut(&mut segment).and_then(|segment| segment.next.take());
        }
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ops, words) = self.published();
        f.debug_struct("Segment").field("ops", &ops).field("words", &words).finish_non_exhaustive()
    }
}

/// The operations of a segment and its successors that were complete when the chain was captured.
///
/// Each segment owns its successor, so a captured chain also keeps segments alive that are linked later. If the
/// operations of a connection are without bound, they must therefore be split into chains that are not linked.
#[derive(Clone, Debug, Default)]
pub(crate) struct SegmentChain {
    first: Option<Arc<Segment>>,
    /// The number of operations at the beginning that are left out.
    skip: u64,
    /// The number of operations that remain after `skip`.
    ops: u64,
}

impl SegmentChain {
    /// Captures the complete operations. Later ones do not appear.
    pub(crate) fn capture(first: Arc<Segment>) -> Self {
        let mut ops = first.ops();
        let mut segment = &first;
        while let Some(next) = segment.next() {
            segment = next;
            ops += segment.ops();
        }
        SegmentChain { first: Some(first), skip: 0, ops }
    }

    /// Leaves out the first `count` operations.
    pub(crate) fn skip(self, count: u64) -> Self {
        let count = count.min(self.ops);
        SegmentChain { first: self.first, skip: self.skip + count, ops: self.ops - count }
    }

    /// Returns the number of operations.
    pub(crate) fn len(&self) -> u64 {
        self.ops
    }

    pub(super) fn iter(&self) -> SegmentChainIter<'_> {
        let mut iter = SegmentChainIter::new(self.first.as_deref(), self.skip + self.ops);
        for _ in 0..self.skip {
            iter.next();
        }
        iter
    }
}

/// An iterator that decodes the operations of a chain.
#[derive(Clone, Debug, Default)]
pub(super) struct SegmentChainIter<'a> {
    segment: Option<&'a Segment>,
    word: usize,
    delta: DeltaCodec,
    left: u64,
}

impl<'a> SegmentChainIter<'a> {
    fn new(segment: Option<&'a Segment>, left: u64) -> Self {
        SegmentChainIter { segment, word: 0, delta: segment.map(|s| s.base).unwrap_or_default(), left }
    }
}

impl Iterator for SegmentChainIter<'_> {
    type Item = RawOp;

    fn next(&mut self) -> Option<RawOp> {
        while self.left > 0 {
            let segment = self.segment?;
            let complete = segment.published().1;
            let mut words =
                segment.words[self.word..complete].iter().map(|word| word.load(Ordering::Relaxed));
            let Some(first) = words.next() else {
                *self = SegmentChainIter::new(segment.next().map(Arc::as_ref), self.left);
                continue;
            };
            let op = self.delta.decode(first, || words.next())?;
            self.word = complete - words.len();
            self.left -= 1;
            return Some(op);
        }
        None
    }
}
