//! [`SectionBuffer`]: finds the end of a section in bytes that arrive in pieces.

use crate::record::WireStop;

/// How many bytes of a head, a trailer section or a compressed block of fields are read.
pub(super) const MAX_SECTION_BYTES: usize = 64 << 10;

/// Finds the end of a section in bytes that arrive in pieces.
///
/// A section that arrives whole is not copied. One that arrives in pieces is collected, up to [`MAX_SECTION_BYTES`].
#[derive(Debug, Default)]
pub(super) struct SectionBuffer {
    /// The pieces that have arrived so far.
    collected: Vec<u8>,
    /// Whether `collected` is a whole section, which was returned.
    is_whole: bool,
}

impl SectionBuffer {
    /// Takes a section from the beginning of `bytes`, together with what earlier calls were given. Returns `None`, and
    /// takes all bytes, if the section goes on.
    ///
    /// `find_end` is given the section so far, and where its new bytes begin. It returns where the section ends.
    pub(super) fn take<'section, 'bytes: 'section>(
        &'section mut self,
        bytes: &mut &'bytes [u8],
        mut find_end: impl FnMut(&[u8], usize) -> Option<usize>,
    ) -> Result<Option<&'section [u8]>, WireStop> {
        if std::mem::take(&mut self.is_whole) {
            self.collected = Vec::new(); // large ones are rare
        }
        let before = self.collected.len();
        if before == 0
            && let Some(end) = find_end(bytes, 0)
        {
            if end > MAX_SECTION_BYTES {
                return Err(WireStop::SectionTooLarge);
            }
            let (section, rest) = bytes.split_at(end);
            *bytes = rest;
            return Ok(Some(section));
        }
        let fitting = bytes.len().min(MAX_SECTION_BYTES - before);
        self.collected.extend_from_slice(&bytes[..fitting]);
        let Some(end) = find_end(&self.collected, before) else {
            if fitting < bytes.len() {
                return Err(WireStop::SectionTooLarge);
            }
            *bytes = &[];
            return Ok(None);
        };
        *bytes = &bytes[end - before..];
        self.collected.truncate(end);
        self.is_whole = true;
        Ok(Some(&self.collected))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_semicolon(bytes: &[u8], from: usize) -> Option<usize> {
        bytes[from..].iter().position(|byte| *byte == b';').map(|at| from + at + 1)
    }

    #[test]
    fn sections_are_found_however_they_are_divided() {
        let all = b"one;two;;three;rest";
        for size in 1..=all.len() {
            let (mut buffer, mut found) = (SectionBuffer::default(), Vec::new());
            for mut piece in all.chunks(size) {
                while let Some(section) = buffer.take(&mut piece, after_semicolon).unwrap() {
                    found.push(String::from_utf8(section.into()).unwrap());
                }
            }
            assert_eq!(found, ["one;", "two;", ";", "three;"], "{size}");
        }
    }

    #[test]
    fn long_sections_are_refused() {
        let mut buffer = SectionBuffer::default();
        let almost = [0; MAX_SECTION_BYTES - 1];
        assert_eq!(buffer.take(&mut &almost[..], after_semicolon), Ok(None));
        assert_eq!(
            buffer.take(&mut &b";"[..], after_semicolon).unwrap().map(<[u8]>::len),
            Some(MAX_SECTION_BYTES)
        );
        assert_eq!(buffer.take(&mut &almost[..], after_semicolon), Ok(None));
        assert_eq!(buffer.take(&mut &b"12;"[..], after_semicolon), Err(WireStop::SectionTooLarge));
    }
}
