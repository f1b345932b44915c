//! The encoder: turns operations into words.

use super::{DeltaCodec, LAYOUTS, Layout, OpFields, OpKind, RawOp, THREE_WORDS, TWO_WORDS, TWO_WORDS_LEN};

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

impl OpKind {
    /// Returns the kind for the same operation when it fails.
    #[inline]
    pub(crate) fn failed(self) -> Self {
        match self {
            OpKind::Read | OpKind::ReadError => OpKind::ReadError,
            OpKind::Write | OpKind::WriteError => OpKind::WriteError,
        }
    }
}

impl DeltaCodec {
    /// Encodes the next operation.
    #[inline]
    pub(crate) fn encode(&mut self, op: &RawOp) -> Encoded {
        let kind = op.kind as u64;
        let parts = OpFields {
            len: u64::from(op.len),
            gap: zigzag(op.call.wrapping_sub(self.base(op.kind))),
            duration: op.ret.saturating_sub(op.call),
        };
        self.advance(op.kind, op.ret.max(op.call));
        // A busy connection uses these two nearly always: a short gap with a long duration, and the reverse.
        if LAYOUTS[0].fits(&parts) {
            Encoded::One(LAYOUTS[0].pack(0, kind, &parts))
        } else if LAYOUTS[1].fits(&parts) {
            Encoded::One(LAYOUTS[1].pack(1, kind, &parts))
        } else {
            parts.encode_uncommon(kind)
        }
    }
}

impl OpFields {
    #[inline(never)]
    fn encode_uncommon(&self, kind: u64) -> Encoded {
        for (number, layout) in (0..).zip(&LAYOUTS).skip(2) {
            if layout.fits(self) {
                return Encoded::One(layout.pack(number, kind, self));
            }
        }
        if self.len >> TWO_WORDS_LEN | self.duration >> 32 == 0 {
            Encoded::Two([kind | TWO_WORDS << 2 | self.len << 5 | self.duration << 32, self.gap])
        } else {
            Encoded::Three([kind | THREE_WORDS << 2 | self.len << 5, self.gap, self.duration])
        }
    }
}

impl Layout {
    #[inline]
    const fn fits(&self, parts: &OpFields) -> bool {
        parts.len >> self.len | parts.gap >> self.gap | parts.duration >> self.duration == 0
    }

    #[inline]
    const fn pack(&self, number: u64, kind: u64, parts: &OpFields) -> u64 {
        kind | number << 2
            | parts.len << 5
            | parts.gap << (5 + self.len)
            | parts.duration << (5 + self.len + self.gap)
    }
}

/// Maps signed numbers to unsigned ones so that small absolute values stay small.
#[inline]
const fn zigzag(difference: u64) -> u64 {
    let signed = difference as i64;
    ((signed << 1) ^ (signed >> 63)) as u64
}

#[cfg(test)]
pub(in crate::record) mod tests {
    use super::{super::unzigzag, *};
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
