//! Encodes a socket operation in one 64-bit word, in common cases.
//!
//! A busy connection has thousands of operations, and a sink keeps them in memory. A word has two bits for the kind,
//! three that select the layout, and 59 for length, gap and duration. The layouts divide these 59 bits differently. An
//! operation that fits no layout takes two or three words. The average is 8.2 bytes an operation (see
//! benches/README.md).
//!
//! The gap is the time from the return of a previous operation to this one's call. A read refers to the previous read,
//! since a read is called again at once and then waits. A write refers to the previous operation of any kind.
//!
//! This file has the format and the decoder, which every trace needs. The encoder is in [`encode`], for sinks that
//! record operations.

#[cfg(any(loom, feature = "connect"))]
pub(super) mod encode;

/// The kind of a socket operation: read or write, successful or failed.
///
/// The discriminants are the two bits that encode the kind. The lowest one is set for writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum OpKind {
    Read = 0,
    Write = 1,
    ReadError = 2,
    WriteError = 3,
}

impl OpKind {
    #[inline]
    fn is_write(self) -> bool {
        self as u8 & 1 != 0
    }

    /// Decodes the lowest two bits of a word.
    fn from_bits(word: u64) -> Self {
        match word & 3 {
            0 => OpKind::Read,
            1 => OpKind::Write,
            2 => OpKind::ReadError,
            _ => OpKind::WriteError,
        }
    }
}

/// An operation as it is observed. Times are ticks of the sink's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawOp {
    pub(crate) call: u64,
    /// When the operation returned. A time before `call` counts as `call`.
    pub(crate) ret: u64,
    /// The number of bytes read or written, or the code of an [`OpError`](super::OpError) if `kind` is an error.
    pub(crate) len: u32,
    pub(crate) kind: OpKind,
}

/// The state of the encoder and the decoder: the times to which the next operation refers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeltaCodec {
    /// When the last operation returned.
    pub(crate) last_any: u64,
    /// When the last read returned.
    pub(crate) last_read: u64,
}

impl DeltaCodec {
    /// Decodes the operation that begins with the word `first`. `more` returns the words after it. Returns `None` if
    /// they are missing.
    pub(crate) fn decode(&mut self, first: u64, mut more: impl FnMut() -> Option<u64>) -> Option<RawOp> {
        let kind = OpKind::from_bits(first);
        let OpFields { len, gap, duration } = match first >> 2 & 7 {
            TWO_WORDS => {
                OpFields { len: first >> 5 & ones(TWO_WORDS_LEN), gap: more()?, duration: first >> 32 }
            }
            THREE_WORDS => OpFields { len: first >> 5, gap: more()?, duration: more()? },
            layout => LAYOUTS[layout as usize].unpack(first),
        };
        let call = self.base(kind).wrapping_add(unzigzag(gap));
        let ret = call.wrapping_add(duration);
        self.advance(kind, ret);
        Some(RawOp { call, ret, len: len as u32, kind })
    }

    #[inline]
    fn base(&self, kind: OpKind) -> u64 {
        if kind.is_write() { self.last_any } else { self.last_read }
    }

    #[inline]
    fn advance(&mut self, kind: OpKind, ret: u64) {
        if !kind.is_write() {
            self.last_read = ret;
        }
        self.last_any = ret;
    }
}

/// The numbers to be packed into words.
struct OpFields {
    len: u64,
    gap: u64,
    duration: u64,
}

/// The number of bits for each field, 59 in all.
struct Layout {
    len: u32,
    gap: u32,
    duration: u32,
}

/// The layouts of a single word; the index is the layout's number.
///
/// At one nanosecond per tick, 15 bits are 33 µs, 20 bits 1 ms, 28 bits 268 ms and 33 bits 8.6 s. Gaps use one of their
/// bits for the sign.
const LAYOUTS: [Layout; 6] = [
    Layout { len: 16, gap: 15, duration: 28 },
    Layout { len: 16, gap: 28, duration: 15 },
    Layout { len: 11, gap: 28, duration: 20 },
    Layout { len: 24, gap: 15, duration: 20 },
    Layout { len: 14, gap: 12, duration: 33 },
    Layout { len: 11, gap: 33, duration: 15 },
];
const _: () = {
    let mut number = 0;
    while number < LAYOUTS.len() {
        let Layout { len, gap, duration } = LAYOUTS[number];
        assert!(2 + 3 + len + gap + duration == u64::BITS, "a layout fills the word");
        number += 1;
    }
};
/// The layout of two words: the first has 27 bits of length and 32 of duration, the second is the gap.
const TWO_WORDS: u64 = 6;
const TWO_WORDS_LEN: u32 = 27;
/// The layout of three words: the first has the length, the others are gap and duration.
const THREE_WORDS: u64 = 7;

impl Layout {
    fn unpack(&self, word: u64) -> OpFields {
        OpFields {
            len: word >> 5 & ones(self.len),
            gap: word >> (5 + self.len) & ones(self.gap),
            duration: word >> (5 + self.len + self.gap),
        }
    }
}

const fn ones(bits: u32) -> u64 {
    (1 << bits) - 1
}

const fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ (number & 1).wrapping_neg()
}
