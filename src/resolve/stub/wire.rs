//! Domain names and numbers in the wire format (RFC 1035 sections 3.1 and 4.1.4).
//!
//! A reply of 64 KiB can have thousands of records whose names are compression pointers to one name of 127 labels.
//! Names are therefore not copied when they are read: each is validated once, and compared or written straight from the
//! message. Every such step follows at most [`MAX_LABELS`] labels and as many pointers.

use std::fmt;

use smallvec::{Array, SmallVec};

/// The maximum length of a name on the wire in bytes, with the length bytes and the root (RFC 1035 section 2.3.4).
const MAX_NAME_BYTES: usize = 255;
/// The maximum number of labels in a name, since each takes at least two bytes. As many pointers are followed.
const MAX_LABELS: usize = 127;

/// Why a message cannot be decoded.
#[derive(Debug, PartialEq)]
pub(super) enum WireError {
    UnexpectedEnd,
    PointerNotPrior { at: usize, to: usize },
    OverlappingLabels { label: usize, other: usize },
    TooManyPointers,
    UnrecognizedLabelCode(u8),
    NameTooLong(usize),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnexpectedEnd => f.write_str("unexpected end of input reached"),
            Self::PointerNotPrior { at, to } => {
                write!(f, "label points to data not prior to idx: {at} ptr: {to}")
            }
            Self::OverlappingLabels { label, other } => {
                write!(f, "overlapping labels name {label} other {other}")
            }
            Self::TooManyPointers => write!(f, "more than {MAX_LABELS} compression pointers in a name"),
            Self::UnrecognizedLabelCode(code) => write!(f, "unrecognized label code: {code:b}"),
            Self::NameTooLong(bytes) => write!(f, "name label data exceed 255: {bytes}"),
        }
    }
}

/// A position in a message.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8], at: usize) -> Self {
        Self { message, at }
    }

    /// Returns the offset of the next byte in the message.
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8], WireError> {
        let rest = self.message.get(self.at..).unwrap_or_default();
        let bytes = rest.get(..len).ok_or(WireError::UnexpectedEnd)?;
        self.at += len;
        Ok(bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        let bytes = self.bytes(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }

    /// Reads a name and validates everything that its pointers lead to.
    pub(super) fn name(&mut self) -> Result<WireName<'a>, WireError> {
        let start = self.at;
        let mut at = start;
        // A run of labels without a pointer. A pointer must lead to an earlier run, which must end before this one
        // begins.
        let (mut piece, mut piece_end) = (start, None);
        let (mut bytes, mut pointers) = (1, 0);
        loop {
            if let Some(end) = piece_end.filter(|end| at >= *end) {
                return Err(WireError::OverlappingLabels { label: piece, other: end });
            }
            match *self.message.get(at).ok_or(WireError::UnexpectedEnd)? {
                0 => break,
                len @ 1..=0x3f => {
                    let len = 1 + usize::from(len);
                    if self.message.len() - at < len {
                        return Err(WireError::UnexpectedEnd);
                    }
                    bytes += len;
                    if bytes > MAX_NAME_BYTES {
                        return Err(WireError::NameTooLong(bytes));
                    }
                    at += len;
                }
                code @ 0xc0.. => {
                    let low = *self.message.get(at + 1).ok_or(WireError::UnexpectedEnd)?;
                    let to = usize::from(u16::from_be_bytes([code, low]) & 0x3fff);
                    if to >= piece {
                        return Err(WireError::PointerNotPrior { at, to });
                    }
                    if pointers == 0 {
                        self.at = at + 2;
                    }
                    pointers += 1;
                    if pointers > MAX_LABELS {
                        return Err(WireError::TooManyPointers);
                    }
                    (piece, piece_end) = (to, Some(piece));
                    at = to;
                }
                code => return Err(WireError::UnrecognizedLabelCode(code)),
            }
        }
        if pointers == 0 {
            self.at = at + 1;
        }
        Ok(WireName { message: self.message, start })
    }
}

/// A validated name in a message.
#[derive(Clone, Copy)]
pub(super) struct WireName<'a> {
    message: &'a [u8],
    start: usize,
}

impl<'a> WireName<'a> {
    pub(super) fn labels(self) -> Labels<'a> {
        Labels { message: self.message, at: self.start }
    }

    /// Returns `true` if the labels are equal, ignoring the case of ASCII letters (RFC 4343).
    pub(super) fn is<'b>(self, other: impl IntoIterator<Item = &'b [u8]>) -> bool {
        let mut others = other.into_iter();
        let same = |ours: &[u8]| others.next().is_some_and(|theirs| theirs.eq_ignore_ascii_case(ours));
        self.labels().all(same) && others.next().is_none()
    }
}

impl PartialEq for WireName<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.labels())
    }
}

impl fmt::Debug for WireName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = SmallVec::<[u8; 64]>::new();
        write_name(self.labels(), &mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

/// An iterator over the labels of a name, from the left, without the root.
pub(super) struct Labels<'a> {
    message: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            match *self.message.get(self.at)? {
                len @ 1..=0x3f => {
                    let label = self.message.get(self.at + 1..)?.get(..usize::from(len))?;
                    self.at += 1 + label.len();
                    return Some(label);
                }
                // Reading the name has checked that it leads backwards.
                code @ 0xc0.. => {
                    let low = *self.message.get(self.at + 1)?;
                    self.at = usize::from(u16::from_be_bytes([code, low]) & 0x3fff);
                }
                _ => return None,
            }
        }
    }
}

/// Writes an absolute name in presentation format (RFC 1035 section 5.1).
///
/// Bytes other than letters, digits, hyphens and underscores are escaped: printable ones as in `\.`, others as `\` and
/// three decimal digits.
pub(super) fn write_name<'a, A: Array<Item = u8>>(
    labels: impl IntoIterator<Item = &'a [u8]>,
    out: &mut SmallVec<A>,
) {
    let begin = out.len();
    for label in labels {
        if label.iter().all(u8::is_ascii_alphanumeric) {
            out.extend_from_slice(label);
        } else {
            label.iter().enumerate().for_each(|(index, byte)| write_byte(*byte, index == 0, out));
        }
        out.push(b'.');
    }
    if out.len() == begin {
        out.push(b'.');
    }
}

fn write_byte<A: Array<Item = u8>>(byte: u8, is_first: bool, out: &mut SmallVec<A>) {
    match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_' => out.push(byte),
        b'-' if !is_first => out.push(byte),
        b'*' if is_first => out.push(byte),
        0x21..=0x7e => out.extend_from_slice(&[b'\\', byte]),
        _ => out.extend_from_slice(&[b'\\', b'0' + byte / 100, b'0' + byte / 10 % 10, b'0' + byte % 10]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::{
        rr::Name,
        serialize::binary::{BinDecodable, BinDecoder, DecodeError},
    };
    use proptest::prelude::*;

    fn text<'a>(labels: impl IntoIterator<Item = &'a [u8]>) -> String {
        let mut text = SmallVec::<[u8; 8]>::new();
        write_name(labels, &mut text);
        String::from_utf8(text.to_vec()).unwrap()
    }

    #[test]
    fn compressed_names_are_read() {
        let message = b"\x03www\x04test\0\xc0\x04\x01a\xc0\x0a";
        let mut reader = Reader::new(message, 0);
        let names: Vec<_> = (0..3).map(|_| reader.name().unwrap()).collect();
        assert_eq!(
            names.iter().map(|name| text(name.labels())).collect::<Vec<_>>(),
            ["www.test.", "test.", "a.test."]
        );
        assert_eq!(reader.offset(), message.len());
        assert!(names[0].is([&b"WWW"[..], b"Test"]) && !names[0].is([&b"www"[..]]));
        assert!(!names[1].is([&b"test"[..], b"x"]) && names[0] != names[1]);
    }

    #[test]
    fn long_chains_of_pointers_are_rejected() {
        // Each pointer leads to the previous one.
        let chain = |pointers: u16| {
            let targets = (0..pointers).map(|index| 0xc000 | (2 * index).saturating_sub(1));
            [vec![0], targets.flat_map(u16::to_be_bytes).collect()].concat()
        };
        let last =
            |message: &[u8]| Reader::new(message, message.len() - 2).name().map(|name| text(name.labels()));
        assert_eq!(last(&chain(127)), Ok(".".into()));
        assert_eq!(last(&chain(128)), Err(WireError::TooManyPointers));
    }

    /// Turns each `\` with three octal digits into `\` with three decimal digits.
    fn decimal(octal: &str) -> String {
        let mut rest = octal;
        let mut decimal = String::new();
        while let Some((before, escape)) = rest.split_once('\\') {
            decimal.push_str(before);
            decimal.push('\\');
            let octal = escape.get(..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
            let len = match octal {
                Some(digits) => {
                    decimal.push_str(&format!("{:03}", u8::from_str_radix(digits, 8).unwrap()));
                    3
                }
                None => {
                    decimal.push_str(&escape[..1]);
                    1
                }
            };
            rest = &escape[len..];
        }
        decimal + rest
    }

    #[test]
    fn escapes_are_decimal() {
        let label = [b'a', 0, b'.', b'\\', 0x7f, 0xff, b' '];
        assert_eq!(text([&label[..], b"test"]), r"a\000\.\\\127\255\032.test.");
    }

    /// Labels, pointers and noise, with a name of 127 labels among them.
    fn message() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            (0u8..80).prop_map(|to| vec![0xc0, to]),
            prop::collection::vec(any::<u8>(), 1..8)
                .prop_map(|label| [vec![label.len() as u8], label].concat()),
            Just(vec![0]),
            prop::collection::vec(any::<u8>(), 0..3),
            (120usize..129).prop_map(|labels| [1, 0xff].repeat(labels)),
        ];
        prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// Names have the text and the end that hickory-proto reads. It escapes in octal, which is converted.
        #[test]
        fn names_are_read_as_by_hickory(message in message(), start: prop::sample::Index) {
            let start = start.index(message.len() + 1);
            let mut reader = Reader::new(&message, start);
            let mut decoder = BinDecoder::new(&message).clone(start as u16);
            match (reader.name(), Name::read(&mut decoder)) {
                (Ok(ours), Ok(theirs)) => {
                    prop_assert_eq!(text(ours.labels()), decimal(&theirs.to_ascii()));
                    prop_assert_eq!(text(theirs.iter()), decimal(&theirs.to_ascii()));
                    prop_assert_eq!(reader.offset(), decoder.index());
                    prop_assert!(ours.is(theirs.iter()) && ours == ours);
                }
                // hickory-proto reports the length of the last label instead.
                (Err(WireError::NameTooLong(_)), Err(DecodeError::DomainNameTooLong(_))) => {}
                (Err(ours), Err(theirs)) => prop_assert_eq!(ours.to_string(), theirs.to_string()),
                (ours, theirs) => prop_assert!(false, "{:?}, but {:?}", ours, theirs),
            }
        }
    }
}
