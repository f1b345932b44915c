//! Socket operations of a record: in the sink's encoding, or plain as they are read from JSON.
//!
//! [`codec`] encodes single operations, [`segment`] stores them, [`op_error`] encodes their errors and [`clock`]
//! converts their times. The sink writes with these types, and a trace reads from the same memory. What writes is
//! compiled only with a feature that records operations.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::serde_helpers::null_as_default;
use super::{BoxedOrEmpty, SocketOp, SocketOpType};

mod clock;
mod codec;
mod op_error;
mod segment;

pub(crate) use clock::{TickScale, TraceClock};
#[cfg(any(loom, feature = "connect"))]
pub(crate) use codec::DeltaCodec;
pub(crate) use codec::{OpKind, RawOp};
pub(crate) use op_error::OpError;
#[cfg(any(loom, feature = "connect"))]
pub(crate) use segment::write_cursor::WriteCursor;
pub(crate) use segment::{Segment, SegmentChain};

/// The operations of a socket, in the order in which they returned.
///
/// A trace taken from a sink shares its encoded operations, about eight bytes each: taking, cloning and serializing a
/// trace copies none. [`iter`](SocketOps::iter) decodes each [`SocketOp`] when it is asked for.
#[derive(Clone, Default)]
pub struct SocketOps(Repr);

#[derive(Clone)]
enum Repr {
    Plain(Vec<SocketOp>),
    Encoded(EncodedOps),
}

impl Default for Repr {
    fn default() -> Self {
        Repr::Plain(Vec::new())
    }
}

/// Operations in the sink's encoding, with what is needed to decode them.
#[derive(Clone)]
pub(crate) struct EncodedOps {
    /// The first operations.
    pub(crate) head: SegmentChain,
    /// The following operations, or the newest if some in between were dropped: several chains, oldest first.
    pub(crate) tail: BoxedOrEmpty<Vec<SegmentChain>>,
    /// The clock that converts the operations' ticks.
    pub(crate) clock: Arc<TraceClock>,
    /// The texts that [`OpError::Text`] refers to by index.
    pub(crate) texts: BoxedOrEmpty<Vec<Box<str>>>,
}

impl SocketOps {
    pub(crate) fn encoded(ops: EncodedOps) -> Self {
        SocketOps(Repr::Encoded(ops))
    }

    /// Returns an iterator over the operations.
    pub fn iter(&self) -> SocketOpsIter<'_> {
        SocketOpsIter(match &self.0 {
            Repr::Plain(ops) => Iter::Plain(ops.iter()),
            Repr::Encoded(ops) => {
                Iter::Encoded { ops, chain: ops.head.iter(), later: ops.tail.iter(), left: ops.len() }
            }
        })
    }

    /// Returns the number of operations.
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::Plain(ops) => ops.len(),
            Repr::Encoded(ops) => ops.len(),
        }
    }

    /// Returns `true` if there are no operations.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl EncodedOps {
    fn len(&self) -> usize {
        let ops = self.head.len() + self.tail.iter().map(SegmentChain::len).sum::<u64>();
        usize::try_from(ops).unwrap_or(usize::MAX)
    }

    fn decode(&self, raw: RawOp) -> SocketOp {
        let error = || (OpError::from_code(raw.len).text(&self.texts).into_owned(), 0);
        let (r#type, (return_err, data_len)) = match raw.kind {
            OpKind::Read => (SocketOpType::Read, (String::new(), raw.len)),
            OpKind::Write => (SocketOpType::Write, (String::new(), raw.len)),
            OpKind::ReadError => (SocketOpType::Read, error()),
            OpKind::WriteError => (SocketOpType::Write, error()),
        };
        SocketOp {
            r#type,
            call_at: self.clock.timestamp(raw.call),
            return_at: self.clock.timestamp(raw.ret),
            return_err,
            remote_addr: String::new(),
            data_len,
        }
    }
}

/// An iterator over the operations of a socket. Created by [`SocketOps::iter`].
#[derive(Clone)]
pub struct SocketOpsIter<'a>(Iter<'a>);

#[derive(Clone)]
enum Iter<'a> {
    Plain(std::slice::Iter<'a, SocketOp>),
    Encoded {
        ops: &'a EncodedOps,
        chain: segment::SegmentChainIter<'a>,
        later: std::slice::Iter<'a, SegmentChain>,
        left: usize,
    },
}

impl Iterator for SocketOpsIter<'_> {
    type Item = SocketOp;

    fn next(&mut self) -> Option<SocketOp> {
        match &mut self.0 {
            Iter::Plain(ops) => ops.next().cloned(),
            Iter::Encoded { ops, chain, later, left } => loop {
                if let Some(raw) = chain.next() {
                    *left = left.saturating_sub(1);
                    return Some(ops.decode(raw));
                }
                *chain = later.next()?.iter();
            },
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            Iter::Plain(ops) => ops.len(),
            Iter::Encoded { left, .. } => *left,
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for SocketOpsIter<'_> {}

impl fmt::Debug for SocketOpsIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SocketOpsIter").field("left", &self.len()).finish()
    }
}

impl From<Vec<SocketOp>> for SocketOps {
    fn from(ops: Vec<SocketOp>) -> Self {
        SocketOps(Repr::Plain(ops))
    }
}

impl FromIterator<SocketOp> for SocketOps {
    fn from_iter<I: IntoIterator<Item = SocketOp>>(ops: I) -> Self {
        Vec::from_iter(ops).into()
    }
}

impl<'a> IntoIterator for &'a SocketOps {
    type Item = SocketOp;
    type IntoIter = SocketOpsIter<'a>;

    fn into_iter(self) -> SocketOpsIter<'a> {
        self.iter()
    }
}

impl PartialEq for SocketOps {
    /// Compares operation by operation, whatever their representation.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl fmt::Debug for SocketOps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for SocketOps {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for SocketOps {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        null_as_default::<Vec<_>, D>(deserializer).map(Self::from)
    }
}

#[cfg(all(test, feature = "connect"))]
mod tests {
    use super::segment::write_cursor::tests::Writer;
    use super::*;

    const BEGIN: u64 = 1_000_000_000;

    fn chain(ops: &[RawOp]) -> SegmentChain {
        let mut writer = Writer::new(Segment::new::<4>);
        ops.iter().for_each(|op| writer.push(op));
        SegmentChain::capture(writer.first)
    }

    fn op(ms: u64, len: u32, kind: OpKind) -> RawOp {
        let call = BEGIN + ms * 1_000_000;
        RawOp { call, ret: call + 500_000, len, kind }
    }

    fn encoded(head: &[RawOp], tail: &[&[RawOp]]) -> SocketOps {
        SocketOps::encoded(EncodedOps {
            head: chain(head),
            tail: tail.iter().map(|ops| chain(ops)).collect(),
            clock: Arc::new(TraceClock {
                scale: TickScale::NANOS,
                begin_nanos: BEGIN,
                begin_unix_nanos: 1_700_000_000_000_000_000,
            }),
            texts: BoxedOrEmpty::from_iter([Box::from("out of luck")]),
        })
    }

    #[test]
    fn encoded_operations_read_like_plain_ones() {
        let errors = [
            op(3, OpError::Os(104).code(), OpKind::ReadError),
            op(4, OpError::Kind(std::io::ErrorKind::WriteZero).code(), OpKind::WriteError),
            op(5, OpError::Text(0).code(), OpKind::WriteError),
        ];
        let before = RawOp { call: BEGIN - 1_000_000, ret: BEGIN + 1_000_000, len: 7, kind: OpKind::Read };
        let ops = encoded(&[before, op(2, 100, OpKind::Write)], &[&errors, &[], &[op(9, 9, OpKind::Read)]]);
        let expected = serde_json::json!([
            {"type": "read", "callAt": "2023-11-14T22:13:19.999Z", "returnAt": "+1ms", "dataLen": 7},
            {"type": "write", "callAt": "+2ms", "returnAt": "+2ms", "dataLen": 100},
            {"type": "read", "callAt": "+3ms", "returnAt": "+3ms", "dataLen": 0,
             "returnErr": std::io::Error::from_raw_os_error(104).to_string()},
            {"type": "write", "callAt": "+4ms", "returnAt": "+4ms", "dataLen": 0, "returnErr": "write zero"},
            {"type": "write", "callAt": "+5ms", "returnAt": "+5ms", "dataLen": 0, "returnErr": "out of luck"},
            {"type": "read", "callAt": "+9ms", "returnAt": "+9ms", "dataLen": 9},
        ]);
        assert_eq!(serde_json::to_value(&ops).unwrap(), expected);
        assert_eq!(ops.len(), 6);
        let plain: SocketOps = ops.iter().collect();
        assert_eq!(plain, ops);
        assert_eq!(ops.clone(), plain);
        assert_eq!(format!("{plain:?}"), format!("{ops:?}"));
        assert_ne!(plain, encoded(&[before], &[]));
    }

    #[test]
    fn the_iterator_has_an_exact_length() {
        let ops = encoded(&[op(1, 1, OpKind::Read), op(2, 2, OpKind::Read)], &[&[op(3, 3, OpKind::Read)]]);
        let mut iter = (&ops).into_iter();
        for left in (0..3).rev() {
            assert!(iter.next().is_some());
            assert_eq!(iter.len(), left);
        }
        assert!(iter.next().is_none() && iter.next().is_none());
        assert!(SocketOps::default().is_empty() && encoded(&[], &[]).is_empty());
        assert_eq!(SocketOps::default(), encoded(&[], &[]));
    }
}
