//! [`FileName`]: the names of the files that the stores of a process write.
//!
//! `nettrace-20261201T050000Z-4711-k3f9q2-0007.jsonl` has the time at which the file was begun, the process, and a
//! number that no other file of the process has. A process is named by its identifier and six random characters, since
//! the system reuses identifiers, and containers have the same ones.

#[cfg(unix)]
use crate::record::Timestamp;
#[cfg(unix)]
use std::{
    process,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};

/// The extension of files of JSON Lines.
pub(super) const JSON_LINES_EXTENSION: &str = "jsonl";

const PREFIX: &str = "nettrace-";

/// The parts of a file's name. They sort by time, and those of one process in the order in which they were begun.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FileName {
    time: String,
    number: u64,
    process: String,
}

impl FileName {
    /// Returns a new name, which no other file of this process has.
    #[cfg(unix)]
    pub(super) fn new(now: SystemTime) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        static PROCESS: OnceLock<String> = OnceLock::new();
        // To the second, without separators.
        let time = Timestamp::from(now).to_string();
        let digits = time.chars().take(19).filter(|c| !matches!(c, '-' | ':'));
        FileName {
            time: digits.chain(['Z']).collect(),
            number: NUMBER.fetch_add(1, Relaxed),
            process: format!("{}-{}", process::id(), PROCESS.get_or_init(random_characters)),
        }
    }

    /// Parses the name of a file with this extension. Returns `None` if no store gives such a name.
    pub(super) fn parse(name: &str, extension: &str) -> Option<Self> {
        let parts = name.strip_suffix(extension)?.strip_suffix('.')?.strip_prefix(PREFIX)?;
        let (time, rest) = parts.split_once('-')?;
        let (process, number) = rest.rsplit_once('-')?;
        let (id, random) = process.split_once('-')?;
        let is_time = time.len() == 16 && time.ends_with('Z');
        let is_process =
            id.bytes().all(|c| c.is_ascii_digit()) && random.bytes().all(|c| c.is_ascii_alphanumeric());
        let is_name = is_time && is_process && !random.is_empty();
        let number = number.parse().ok()?;
        is_name.then(|| FileName { time: time.into(), number, process: process.into() })
    }

    #[cfg(unix)]
    pub(super) fn with_extension(&self, extension: &str) -> String {
        let FileName { time, number, process } = self;
        format!("{PREFIX}{time}-{process}-{number:04}.{extension}")
    }

    /// Returns the process that began the file: its identifier and the random characters.
    pub(super) fn process(&self) -> &str {
        &self.process
    }
}

#[cfg(unix)]
fn random_characters() -> String {
    const CHARACTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    (0..6).map(|_| char::from(CHARACTERS[fastrand::usize(..CHARACTERS.len())])).collect()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn names_tell_time_process_and_number() {
        let at = |seconds| FileName::new(UNIX_EPOCH + Duration::from_secs(seconds));
        let (first, second) = (at(1_796_101_200), at(1_796_101_199));
        let text = first.with_extension("jsonl");
        let pid = process::id().to_string();
        assert!(text.starts_with(&format!("nettrace-20261201T050000Z-{pid}-")), "{text}");
        assert_eq!(FileName::parse(&text, "jsonl").as_ref(), Some(&first));
        assert_eq!((first.process(), first.process().len()), (second.process(), pid.len() + 7));
        assert!(second < first, "by time");
        assert!(at(7) < FileName { number: u64::MAX, ..at(7) }, "and by number");
    }

    #[test]
    fn names_of_other_files_are_none() {
        for name in [
            "nettrace-20261201T050000Z-4711-k3f9q2-0007.sqlite",
            "nettrace-20261201T050000Z-4711-k3f9q2.jsonl",
            "nettrace-20261201T050000Z-4711--0007.jsonl",
            "nettrace-20261201T050000Z-x-k3f9q2-0007.jsonl",
            "nettrace-yesterday-4711-k3f9q2-0007.jsonl",
            "nettrace-dump-2026-12-01T021530.123456789Z-4711-0.json",
            "nettrace-20261201T050000Z-4711-k3f9q2-0007jsonl",
            "trace.jsonl",
            ".jsonl",
            "",
        ] {
            assert_eq!(FileName::parse(name, "jsonl"), None, "{name}");
        }
    }
}
