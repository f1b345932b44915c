//! A configuration file that is read again when it changes.

use crate::sync::IgnorePoison;
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

/// The minimum time between two checks of the file.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Larger files are not read. Hosts files that block advertisements have some hundred thousand lines.
const MAX_FILE_MIB: u64 = 64;

/// The parsed content of a file, which is read again when the file changes; or a value that never changes.
pub(super) struct Reloadable<T> {
    file: Option<WatchedFile<T>>,
    state: Mutex<State<T>>,
}

struct WatchedFile<T> {
    path: PathBuf,
    /// Parses the content; `None` if there is no such file.
    parse: Parse<T>,
}

type Parse<T> = Box<dyn Fn(Option<&[u8]>) -> T + Send + Sync>;

struct State<T> {
    value: Arc<T>,
    version: Option<FileVersion>,
    check_at: Instant,
}

impl<T> Reloadable<T> {
    /// Reads the file. A missing file is not an error, one that cannot be read is.
    pub(super) fn open(
        path: PathBuf,
        parse: impl Fn(Option<&[u8]>) -> T + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (version, content) = read(&path)?;
        Ok(Self::new(path, parse, version, content.as_deref()))
    }

    /// Reads the file. One that cannot be read counts as missing until it can be.
    pub(super) fn open_or_missing(
        path: PathBuf,
        parse: impl Fn(Option<&[u8]>) -> T + Send + Sync + 'static,
    ) -> Self {
        let (version, content) = read(&path).unwrap_or_else(|error| {
            let path = path.display();
            tracing::warn!(target: "nettrace", %path, %error, "cannot be read and counts as missing");
            (None, None)
        });
        Self::new(path, parse, version, content.as_deref())
    }

    fn new(
        path: PathBuf,
        parse: impl Fn(Option<&[u8]>) -> T + Send + Sync + 'static,
        version: Option<FileVersion>,
        content: Option<&[u8]>,
    ) -> Self {
        let state =
            State { value: Arc::new(parse(content)), version, check_at: Instant::now() + CHECK_INTERVAL };
        Self { file: Some(WatchedFile { path, parse: Box::new(parse) }), state: Mutex::new(state) }
    }

    /// Creates a value that never changes.
    pub(super) fn fixed(value: T) -> Self {
        let state = State { value: Arc::new(value), version: None, check_at: Instant::now() };
        Self { file: None, state: Mutex::new(state) }
    }

    /// Returns the current value. Once in five seconds one caller checks whether the file has changed, while the others
    /// get the value at once. If the file can no longer be read, the last value stays.
    pub(super) fn get(&self) -> Arc<T> {
        let mut state = self.state();
        let Some(file) = &self.file else { return state.value.clone() };
        let now = Instant::now();
        if now < state.check_at {
            return state.value.clone();
        }
        state.check_at = now + CHECK_INTERVAL;
        let (version, value) = (state.version, state.value.clone());
        drop(state);

        match file.read_if_changed(version) {
            Ok(None) => value,
            Ok(Some((version, content))) => {
                let value = Arc::new((file.parse)(content.as_deref()));
                let mut state = self.state();
                state.version = version;
                state.value = value.clone();
                value
            }
            Err(error) => {
                let path = file.path.display();
                tracing::warn!(target: "nettrace", %path, %error, "cannot read a changed file again");
                value
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().ignore_poison()
    }
}

impl<T> WatchedFile<T> {
    fn read_if_changed(&self, known: Option<FileVersion>) -> io::Result<Option<Content>> {
        if FileVersion::of(&self.path)? == known { Ok(None) } else { read(&self.path).map(Some) }
    }
}

impl<T: fmt::Debug> fmt::Debug for Reloadable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.file.as_ref().map(|file| &file.path);
        let value = self.state().value.clone();
        f.debug_struct("Reloadable").field("path", &path).field("value", &value).finish()
    }
}

/// The version and the content of a file; `None` if there is no such file.
type Content = (Option<FileVersion>, Option<Vec<u8>>);

/// Reads a file. Its version is read first, so that a change in between is noticed at the next check.
fn read(path: &Path) -> io::Result<Content> {
    let version = FileVersion::of(path)?;
    match crate::file::read(path, MAX_FILE_MIB) {
        Ok(content) => Ok((version, Some(content))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok((None, None)),
        Err(error) => Err(error),
    }
}

/// The metadata of a file that changes with its content, so that the file need not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileVersion {
    modified: Option<SystemTime>,
    len: u64,
    inode: u64,
}

impl FileVersion {
    /// Returns `None` if there is no such file.
    fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self {
                modified: metadata.modified().ok(),
                len: metadata.len(),
                inode: inode(&metadata),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(unix)]
fn inode(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Reloadable<String> {
        let text = |content: Option<&[u8]>| match content {
            Some(content) => String::from_utf8_lossy(content).into_owned(),
            None => "missing".to_owned(),
        };
        Reloadable::open(path.to_owned(), text).unwrap()
    }

    /// Replaces the file by a new one, so that its version changes whatever the resolution of its time stamps.
    fn replace(path: &Path, content: &str) {
        let new = path.with_extension("new");
        fs::write(&new, content).unwrap();
        fs::rename(&new, path).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_value_follows_the_file() {
        let directory = tempdir();
        let path = directory.join("file");
        let file = open(&path);
        assert_eq!(*file.get(), "missing");

        replace(&path, "one");
        assert_eq!(*file.get(), "missing", "the file is not checked within five seconds");
        tokio::time::advance(CHECK_INTERVAL).await;
        assert_eq!(*file.get(), "one");
        assert_eq!(*file.get(), "one");

        replace(&path, "two");
        tokio::time::advance(CHECK_INTERVAL).await;
        assert_eq!(*file.get(), "two");

        fs::remove_file(&path).unwrap();
        tokio::time::advance(CHECK_INTERVAL).await;
        assert_eq!(*file.get(), "missing");
        fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_value_is_kept_if_the_file_cannot_be_read() {
        let directory = tempdir();
        let path = directory.join("file");
        replace(&path, "one");
        let file = open(&path);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        tokio::time::advance(CHECK_INTERVAL).await;
        assert_eq!(*file.get(), "one");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn an_unreadable_file_is_an_error_or_missing() {
        let directory = tempdir();
        assert!(Reloadable::open(directory.clone(), |_| ()).is_err());
        let file = Reloadable::open_or_missing(directory.clone(), |content| content.is_none());
        assert!(*file.get());
        fs::remove_dir_all(directory).unwrap();
    }

    fn tempdir() -> PathBuf {
        let name = format!("nettrace-reload-{}-{:x}", std::process::id(), fastrand::u64(..));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        path
    }
}
