//! [`Rotation`]: when a file is full.

use std::time::Duration;

/// How large and how old a file becomes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rotation {
    pub(super) max_bytes: u64,
    pub(super) max_age: Duration,
}

impl Rotation {
    /// Returns how many bytes may be appended to a file of this length and age. Returns `None` if none may.
    ///
    /// An empty file takes at least one line, however long that is.
    pub(super) fn room(&self, len: u64, age: Duration) -> Option<u64> {
        let is_old = age >= self.max_age && len > 0;
        let room = self.max_bytes.saturating_sub(len);
        (!is_old && (room > 0 || len == 0)).then_some(room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_full_by_size_or_age() {
        let rotation = Rotation { max_bytes: 100, max_age: Duration::from_secs(60) };
        let (young, old) = (Duration::from_secs(59), Duration::from_secs(60));
        assert_eq!(rotation.room(40, young), Some(60));
        assert_eq!(rotation.room(100, young), None);
        assert_eq!(rotation.room(140, young), None, "a long line");
        assert_eq!(rotation.room(40, old), None);
        assert_eq!(rotation.room(0, old), Some(100), "an empty file is begun when it is written to");
        let tiny = Rotation { max_bytes: 0, max_age: Duration::ZERO };
        assert_eq!((tiny.room(0, Duration::ZERO), tiny.room(1, Duration::ZERO)), (Some(0), None));
    }
}
