//! Encodes a socket operation in one 64-bit word, in common cases.
//!
//! A busy connection has thousands of operations, and a sink keeps them in memory. A word has two bits for the kind,
//! three that select the layout, and 59 for length, gap and duration. The layouts divide these 59 bits differently. An
//! operation that fits no layout takes two or three words. The average is 8.2 bytes an operation (see
//! benches/README.md).
//!
//! The gap is the time from the return of a previous operation to this one's call. A read refers to the previous read,
//! since a read is called again at once and then waits. A write refers to the previous operation of any kind.

/// The kind of a socket operation: read or write, successful or failed.
///
/// The discriminants are the two bits that encode the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum OpKind {
    Read = 0,
    Write = 1,
    ReadError = 2,
    WriteError = 3,
}

impl OpKind {
    /// Returns the kind for the same operation when it fails.
    #[inline]
    pub(crate) fn failed(self) -> Self {
        match self {
            OpKind::Read | OpKind::ReadError => OpKind::ReadError,
            OpKind::Write | OpKind::WriteError => OpKind::WriteError,
        }
    }

    #[inline]
    fn is_write(self) -> bool {
        matches!(self, OpKind::Write | OpKind::WriteError)
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

/// The words of one encoded operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoded {
    One(u64),
    Two([u64; 2]),
    Three([u64; 3]),
}

impl Encoded {
    pub(crate) fn words(&self) -> &[u64] {
        match self {
            Encoded::One(word) => std::slice::from_ref(word),
            Encoded::Two(words) => words,
            Encoded::Three(words) => words,
        }
    }
}

impl DeltaCodec {
    /// Encodes the next operation.
    #[inline]
    pub(crate) fn encode(&mut self, op: &RawOp) -> Encoded {
        let parts = OpFields {
            kind: op.kind as u64,
            len: u64::from(op.len),
            gap: zigzag(op.call.wrapping_sub(self.base(op.kind))),
            duration: op.ret.saturating_sub(op.call),
        };
        self.advance(op.kind, op.ret.max(op.call));
        // A busy connection uses these two nearly always: a short gap with a long duration, and the reverse.
        if LAYOUTS[0].fits(&parts) {
            Encoded::One(LAYOUTS[0].pack(0, &parts))
        } else if LAYOUTS[1].fits(&parts) {
            Encoded::One(LAYOUTS[1].pack(1, &parts))
        } else {
            parts.encode_uncommon()
        }
    }

    /// Decodes the operation that begins with the word `first`. `more` returns the words after it. Returns `None` if
    /// they are missing.
    pub(crate) fn decode(&mut self, first: u64, mut more: impl FnMut() -> Option<u64>) -> Option<RawOp> {
        let kind = OpKind::from_bits(first);
        let OpFields { len, gap, duration, .. } = match first >> 2 & 7 {
            TWO_WORDS => OpFields {
                kind: 0,
                len: first >> 5 & ones(TWO_WORDS_LEN),
                gap: more()?,
                duration: first >> 32,
            },
            THREE_WORDS => OpFields { kind: 0, len: first >> 5, gap: more()?, duration: more()? },
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
    kind: u64,
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
/// The layout of two words: the first has 27 bits of length and 32 of duration, the second is the gap.
const TWO_WORDS: u64 = 6;
const TWO_WORDS_LEN: u32 = 27;
/// The layout of three words: the first has the length, the others are gap and duration.
const THREE_WORDS: u64 = 7;

impl OpFields {
    #[inline(never)]
    fn encode_uncommon(&self) -> Encoded {
        for (number, layout) in (0..).zip(&LAYOUTS).skip(2) {
            if layout.fits(self) {
                return Encoded::One(layout.pack(number, self));
            }
        }
        if self.len >> TWO_WORDS_LEN | self.duration >> 32 == 0 {
            Encoded::Two([self.kind | TWO_WORDS << 2 | self.len << 5 | self.duration << 32, self.gap])
        } else {
            Encoded::Three([self.kind | THREE_WORDS << 2 | self.len << 5, self.gap, self.duration])
        }
    }
}

impl Layout {
    #[inline]
    const fn fits(&self, parts: &OpFields) -> bool {
        parts.len >> self.len | parts.gap >> self.gap | parts.duration >> self.duration == 0
    }

    #[inline]
    const fn pack(&self, number: u64, parts: &OpFields) -> u64 {
        parts.kind
            | number << 2
            | parts.len << 5
            | parts.gap << (5 + self.len)
            | parts.duration << (5 + self.len + self.gap)
    }

    fn unpack(&self, word: u64) -> OpFields {
        OpFields {
            kind: word & 3,
            len: word >> 5 & ones(self.len),
            gap: word >> (5 + self.len) & ones(self.gap),
            duration: word >> (5 + self.len + self.gap),
        }
    }
}

const fn ones(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// Maps signed numbers to unsigned ones so that small absolute values stay small.
#[inline]
const fn zigzag(difference: u64) -> u64 {
    let signed = difference as i64;
    ((signed << 1) ^ (signed >> 63)) as u64
}

const fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ (number & 1).wrapping_neg()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Generates operations with times of all magnitudes. Some are called before the last return, like a read that
    /// waits while writes continue.
    pub(in crate::record) fn ops(max: usize) -> impl Strategy<Value = Vec<RawOp>> {
        let magnitude =
            |bits: u32| (0..=bits).prop_flat_map(|b| 0..=u64::MAX.checked_shr(64 - b).unwrap_or(0));
        let kind = (0u64..4).prop_map(OpKind::from_bits);
        let op = (kind, magnitude(32), magnitude(64), any::<bool>(), magnitude(64));
        proptest::collection::vec(op, 0..max).prop_map(|ops| {
            let mut now = 0u64;
            ops.into_iter()
                .map(|(kind, len, gap, back, duration)| {
                    let call = if back { now.wrapping_sub(gap) } else { now.wrapping_add(gap) };
                    let ret = call.saturating_add(duration);
                    now = ret;
                    RawOp { call, ret, len: len as u32, kind }
                })
                .collect()
        })
    }

    fn decode_all(words: &[u64]) -> Vec<RawOp> {
        let mut delta = DeltaCodec::default();
        let mut words = words.iter().copied();
        let mut ops = Vec::new();
        while let Some(first) = words.next() {
            ops.push(delta.decode(first, || words.next()).unwrap());
        }
        ops
    }

    fn encode_one(delta: &mut DeltaCodec, call: u64, ret: u64, len: u32, kind: OpKind) -> usize {
        delta.encode(&RawOp { call, ret, len, kind }).words().len()
    }

    proptest! {
        #[test]
        fn encoded_operations_are_decoded(ops in ops(50)) {
            let mut delta = DeltaCodec::default();
            let words: Vec<u64> = ops.iter().flat_map(|op| delta.encode(op).words().to_vec()).collect();
            prop_assert_eq!(decode_all(&words), ops);
        }

        #[test]
        fn any_words_are_decoded_or_rejected(words: Vec<u64>) {
            let mut delta = DeltaCodec::default();
            let mut words = words.into_iter();
            while let Some(first) = words.next() {
                let _ = delta.decode(first, || words.next());
            }
        }

        #[test]
        fn zigzag_is_reversible(number: u64) {
            prop_assert_eq!(unzigzag(zigzag(number)), number);
            prop_assert!(zigzag(number).min(zigzag(number.wrapping_neg())) <= number.saturating_mul(2));
        }
    }

    #[test]
    fn layouts_fill_the_word() {
        for Layout { len, gap, duration } in LAYOUTS {
            assert_eq!(2 + 3 + len + gap + duration, 64);
        }
    }

    #[test]
    fn common_operations_take_one_word() {
        let mut delta = DeltaCodec { last_any: 1_000_000_000, last_read: 1_000_000_000 };
        // A write, the reply after 80 ms, the rest of its body at once, then 8 s idle.
        assert_eq!(encode_one(&mut delta, 1_000_020_000, 1_000_025_000, 120, OpKind::Write), 1);
        assert_eq!(encode_one(&mut delta, 1_000_000_500, 1_080_000_000, 16_384, OpKind::Read), 1);
        assert_eq!(encode_one(&mut delta, 1_080_100_000, 1_080_102_000, 65_535, OpKind::Read), 1);
        assert_eq!(encode_one(&mut delta, 1_080_103_000, 9_000_000_000, 600, OpKind::Read), 1);
        // A large buffer, a reset, a day without traffic.
        assert_eq!(encode_one(&mut delta, 9_000_001_000, 9_000_301_000, 1 << 20, OpKind::Write), 1);
        assert_eq!(encode_one(&mut delta, 9_000_302_000, 9_000_303_000, 104 << 2, OpKind::ReadError), 1);
        assert_eq!(encode_one(&mut delta, 86_409_000_000_000, 86_409_000_001_000, 9, OpKind::Write), 2);
        assert_eq!(encode_one(&mut delta, 9_000_304_000, 172_809_000_000_000, 9, OpKind::Read), 3);
    }

    #[test]
    fn a_clock_that_runs_backwards_ends_at_the_call() {
        let mut delta = DeltaCodec::default();
        let Encoded::One(word) = delta.encode(&RawOp { call: 9, ret: 5, len: 1, kind: OpKind::Read }) else {
            panic!()
        };
        assert_eq!(decode_all(&[word]), [RawOp { call: 9, ret: 9, len: 1, kind: OpKind::Read }]);
        assert_eq!(delta.last_any, 9);
    }

    #[test]
    fn missing_words_are_detected() {
        let words =
            DeltaCodec::default().encode(&RawOp { call: 0, ret: u64::MAX, len: 1, kind: OpKind::Read });
        assert_eq!(words.words().len(), 3);
        assert_eq!(DeltaCodec::default().decode(words.words()[0], || None), None);
    }
}
