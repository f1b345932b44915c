//! TLS secrets, with which captured traffic can be decrypted.

use crate::{hex::push_hex, sync::IgnorePoison};
use std::{
    collections::VecDeque,
    fmt,
    fs::{File, OpenOptions, Permissions},
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

/// A log of TLS secrets, so that programs like Wireshark can decrypt captured traffic. Clones share one log.
///
/// Nothing is kept unless the log is passed to a [`TraceTlsLayerBuilder`](super::TraceTlsLayerBuilder::key_log) or to a
/// client's builder. **Whoever has the secrets can read everything that these connections carried.** A log made with
/// [`new`](Self::new) stays in memory until it is [written](Self::write_to_file); one made with
/// [`to_file`](Self::to_file) also appends each secret to a file. Memory holds at most 1 MiB: the oldest lines are
/// dropped first.
///
/// The format is that of NSS (draft-ietf-tls-keylogfile), as `SSLKEYLOGFILE` has it.
///
/// ```
/// use nettrace::{TraceSink, tls::{KeyLog, TraceTlsLayer}};
///
/// let key_log = KeyLog::new();
/// let layer = TraceTlsLayer::builder(&TraceSink::new()).key_log(&key_log).build();
/// // … after some connections:
/// print!("{}", key_log.to_nss());
/// ```
#[derive(Clone, Default)]
pub struct KeyLog(Arc<Inner>);

#[derive(Default)]
struct Inner {
    lines: Mutex<Lines>,
    file: Option<File>,
}

#[derive(Default)]
struct Lines {
    lines: VecDeque<Box<str>>,
    size: usize,
    dropped: u64,
    /// The first error of writing to the file, after which no more is written.
    error: Option<io::Error>,
}

/// The bytes of all lines together: about 1,100 TLS 1.3 handshakes.
const MAX_BYTES: usize = 1 << 20;

impl KeyLog {
    /// Creates a log that is kept in memory only.
    pub fn new() -> Self {
        KeyLog::default()
    }

    /// Creates a log that also appends each line to a file, as soon as it is known. Only the file's owner may read it.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened. If a later write fails, no more is written:
    /// [`file_error`](Self::file_error) returns the error.
    pub fn to_file(path: impl AsRef<Path>) -> io::Result<Self> {
        let file = open_private(path.as_ref(), |options| options.append(true))?;
        Ok(KeyLog(Arc::new(Inner { lines: Mutex::default(), file: Some(file) })))
    }

    /// Returns all lines in memory, in the format of a key log file.
    pub fn to_nss(&self) -> String {
        let lines = self.lock();
        lines.lines.iter().map(AsRef::as_ref).collect()
    }

    /// Writes all lines in memory to a file that only its owner may read. What the file holds is replaced.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write_to_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let mut file = open_private(path.as_ref(), |options| options.truncate(true))?;
        file.write_all(self.to_nss().as_bytes())
    }

    /// Returns the number of lines in memory. A handshake has one (TLS 1.2) or five (TLS 1.3).
    pub fn len(&self) -> usize {
        self.lock().lines.len()
    }

    /// Returns `true` if there are no lines in memory.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of lines that were dropped from memory because of the limit.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Returns the error after which no more is written to the file.
    pub fn file_error(&self) -> Option<io::Error> {
        let lines = self.lock();
        let error = lines.error.as_ref()?;
        Some(io::Error::new(error.kind(), error.to_string()))
    }

    /// Removes all lines from memory. What was written to a file stays there.
    pub fn clear(&self) {
        *self.lock() = Lines::default();
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lines.lock().ignore_poison()
    }
}

impl rustls::KeyLog for KeyLog {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let line = line(label, client_random, secret);
        let mut lines = self.lock();
        if let Some(mut file) = self.0.file.as_ref()
            && lines.error.is_none()
            && let Err(error) = file.write_all(line.as_bytes())
        {
            tracing::warn!(target: "nettrace", "no more TLS secrets are written: {error}");
            lines.error = Some(error);
        }
        lines.size += line.len();
        lines.lines.push_back(line);
        while lines.size > MAX_BYTES
            && let Some(oldest) = lines.lines.pop_front()
        {
            lines.size -= oldest.len();
            lines.dropped += 1;
        }
    }
}

impl fmt::Debug for KeyLog {
    /// Shows no secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyLog").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A key log that passes each line on to the one that the configuration had before.
#[derive(Debug)]
pub(super) struct TeeKeyLog(pub(super) KeyLog, pub(super) Arc<dyn rustls::KeyLog>);

impl rustls::KeyLog for TeeKeyLog {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        self.0.log(label, client_random, secret);
        if self.1.will_log(label) {
            self.1.log(label, client_random, secret);
        }
    }
}

fn line(label: &str, client_random: &[u8], secret: &[u8]) -> Box<str> {
    let mut line = String::with_capacity(label.len() + 2 * (client_random.len() + secret.len()) + 3);
    line.push_str(label);
    for bytes in [client_random, secret] {
        line.push(' ');
        push_hex(&mut line, bytes);
    }
    line.push('\n');
    line.into_boxed_str()
}

/// Opens or creates a file that only its owner may read.
fn open_private(path: &Path, how: impl FnOnce(&mut OpenOptions) -> &mut OpenOptions) -> io::Result<File> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = how(options.write(true).create(true)).open(path)?;
    #[cfg(unix)]
    if file.metadata()?.is_file() {
        file.set_permissions(<Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::KeyLog as _;

    #[test]
    fn lines_have_the_nss_format() {
        let log = KeyLog::new();
        log.log("CLIENT_RANDOM", &[0xab; 2], &[1, 0]);
        log.clone().log("X", &[], &[0xff]);
        assert_eq!(log.to_nss(), "CLIENT_RANDOM abab 0100\nX  ff\n");
        assert!(!format!("{log:?}").contains("abab"));
        log.clear();
        assert!(log.is_empty());
    }

    #[test]
    fn the_oldest_lines_are_dropped() {
        let log = KeyLog::new();
        let count = MAX_BYTES as u64 / 150;
        for n in 0..2 * count {
            log.log("CLIENT_TRAFFIC_SECRET_0", &n.to_be_bytes(), &[7; 64]);
        }
        let text = log.to_nss();
        assert!(text.len() <= MAX_BYTES && log.dropped() > count / 2);
        assert_eq!(text.lines().count() as u64 + log.dropped(), 2 * count);
        assert!(text.ends_with('\n') && text.starts_with("CLIENT_TRAFFIC_SECRET_0 "));
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_the_file() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        std::fs::write(&path, "before\n").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();

        let log = KeyLog::to_file(&path).unwrap();
        log.log("A", &[1], &[2]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "before\nA 01 02\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        log.write_to_file(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "A 01 02\n");
        assert!(KeyLog::to_file(directory.path()).is_err());
        assert!(log.file_error().is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_ends_writing_but_not_logging() {
        let log = KeyLog::to_file("/dev/full").unwrap();
        log.log("A", &[1], &[2]);
        log.log("B", &[1], &[2]);
        assert_eq!(log.file_error().unwrap().kind(), io::ErrorKind::StorageFull);
        assert_eq!(log.len(), 2);
    }
}
