//! How answers are stored: numbers are big-endian, texts follow their length.

use crate::record::Text;
#[cfg(feature = "resolve")]
use smallvec::SmallVec;

/// A text that is being written.
#[cfg(feature = "resolve")]
pub(crate) type AnswerText = SmallVec<[u8; 512]>;

/// The length of the longest addresses as text.
#[cfg(feature = "resolve")]
pub(super) const V4_TEXT_BYTES: usize = 15;
#[cfg(feature = "resolve")]
pub(super) const V6_TEXT_BYTES: usize = 39;

pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*bytes)
}

pub(super) fn take_text(rest: &mut &[u8]) -> Option<Text> {
    std::str::from_utf8(take_bytes(rest)?).ok().map(Text::from)
}

/// Takes bytes that follow their length.
pub(super) fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = u16::from_be_bytes(take(rest)?);
    let (bytes, after) = rest.split_at_checked(len.into())?;
    *rest = after;
    Some(bytes)
}
