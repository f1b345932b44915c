//! [`Batch`]: lines that wait to be written.

use memchr::{memchr, memchr_iter, memrchr};
use serde::Serialize;

/// Whole lines that were not written yet.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
}

impl Batch {
    /// Appends a value as a line of JSON.
    ///
    /// # Errors
    ///
    /// Fails if the value has no JSON. Nothing is appended then.
    pub(super) fn push(&mut self, value: &impl Serialize) -> serde_json::Result<()> {
        let len = self.bytes.len();
        let written = serde_json::to_writer(&mut self.bytes, value);
        match written {
            Ok(()) => self.bytes.push(b'\n'),
            Err(_) => self.bytes.truncate(len),
        }
        written
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns as many lines as fit into `room` bytes, and at least one if `has_one_at_least`.
    pub(super) fn lines_within(&self, room: u64, has_one_at_least: bool) -> &[u8] {
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(self.bytes.len());
        let fitting = memrchr(b'\n', &self.bytes[..room]);
        let end = match fitting {
            None if has_one_at_least => memchr(b'\n', &self.bytes),
            fitting => fitting,
        };
        &self.bytes[..end.map_or(0, |end| end + 1)]
    }

    /// Removes the lines in the first bytes, and returns how many they are.
    pub(super) fn remove(&mut self, bytes: usize) -> u64 {
        memchr_iter(b'\n', self.bytes.drain(..bytes).as_slice()).count() as u64
    }

    /// Removes all lines, and returns how many they are.
    pub(super) fn clear(&mut self) -> u64 {
        self.remove(self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_whole() {
        let mut batch = Batch::default();
        assert_eq!((batch.lines_within(9, true), batch.is_empty()), (&b""[..], true));
        for number in [1, 22, 333] {
            batch.push(&number).unwrap();
        }
        assert_eq!(batch.len(), 9);
        for (room, lines) in [(0, ""), (1, ""), (2, "1\n"), (4, "1\n"), (5, "1\n22\n"), (99, "1\n22\n333\n")]
        {
            assert_eq!(batch.lines_within(room, false), lines.as_bytes(), "{room}");
        }
        assert_eq!(batch.lines_within(0, true), b"1\n");
        assert_eq!((batch.remove(5), batch.lines_within(99, false)), (2, &b"333\n"[..]));
        assert_eq!((batch.clear(), batch.clear(), batch.is_empty()), (1, 0, true));
    }

    #[test]
    fn a_value_without_json_leaves_nothing() {
        let mut batch = Batch::default();
        batch.push(&"whole").unwrap();
        let no_text_as_key = std::collections::BTreeMap::from([(vec![1], 1)]);
        assert!(batch.push(&(1, no_text_as_key)).is_err());
        assert_eq!(batch.lines_within(u64::MAX, false), b"\"whole\"\n");
    }
}
