//! [`LogFile`]: the file that a store appends to.
//!
//! The file is locked as long as it is open, so that no other store takes it for one that may be removed.

use crate::store::file_name::{FileName, JSON_LINES_EXTENSION};
use memchr::memrchr;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

/// An open file, to which nobody else appends.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    path: PathBuf,
    begun_at: Instant,
    /// The length after the last whole line.
    len: u64,
}

/// What became of lines that were to be appended.
#[derive(Debug)]
pub(super) struct Appended {
    /// The length of the lines that are in the file.
    pub(super) bytes: usize,
    pub(super) result: Result<(), AppendError>,
}

/// Why not all lines are in the file.
#[derive(Debug)]
pub(super) struct AppendError {
    pub(super) source: io::Error,
    /// Whether the file may end in the middle of a line, so that nothing may follow.
    pub(super) is_torn: bool,
}

/// How often another name is tried before a file is not created. A name is in use only if something disturbs.
const MAX_NAMES: usize = 8;

impl LogFile {
    /// Creates a file that only its owner may read, and the directory if it does not exist.
    pub(super) fn create(directory: &Path) -> Result<Self, CreateError> {
        let mut create_directory = DirBuilder::new();
        create_directory.recursive(true).mode(0o700).create(directory).map_err(CreateError::Directory)?;
        for _ in 0..MAX_NAMES {
            let name = FileName::new(SystemTime::now()).with_extension(JSON_LINES_EXTENSION);
            let path = directory.join(name);
            let created = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path);
            let file = match created {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(CreateError::File(error)),
            };
            match lock(&file) {
                Ok(true) => {}
                // Somebody looks whether the file may be removed.
                Ok(false) => {
                    let _ = fs::remove_file(&path);
                    continue;
                }
                Err(error) => {
                    let _ = fs::remove_file(&path);
                    return Err(CreateError::Lock(error));
                }
            }
            let file = LogFile { file, path, begun_at: Instant::now(), len: 0 };
            if file.is_intact() {
                return Ok(file);
            }
        }
        Err(CreateError::File(io::ErrorKind::AlreadyExists.into()))
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn age(&self) -> Duration {
        self.begun_at.elapsed()
    }

    /// Appends whole lines. After an error the file ends with the last line that is whole.
    pub(super) fn append(&mut self, lines: &[u8]) -> Appended {
        let (written, result) = write(&mut self.file, lines);
        if let Ok(()) = result {
            self.len += lines.len() as u64;
            return Appended { bytes: lines.len(), result: Ok(()) };
        }
        let whole = memrchr(b'\n', &lines[..written]).map_or(0, |end| end + 1);
        self.len += whole as u64;
        let is_torn = whole < written && self.file.set_len(self.len).is_err();
        Appended { bytes: whole, result: result.map_err(|source| AppendError { source, is_torn }) }
    }

    /// Returns `false` if somebody has removed or changed the file.
    pub(super) fn is_intact(&self) -> bool {
        let metadata = self.file.metadata();
        metadata.is_ok_and(|metadata| metadata.nlink() > 0 && metadata.len() == self.len)
    }
}

impl Drop for LogFile {
    /// Removes the file if it is empty.
    fn drop(&mut self) {
        if self.len == 0 {
            // One that stays is removed with other old ones.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Why a file is not created.
#[derive(Debug)]
pub(super) enum CreateError {
    Directory(io::Error),
    File(io::Error),
    Lock(io::Error),
}

impl From<CreateError> for io::Error {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Directory(error) | CreateError::File(error) | CreateError::Lock(error) => error,
        }
    }
}

/// Locks a file until it is closed. Returns `false` if somebody else has locked it.
pub(super) fn lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Writes everything, and returns how many bytes were written before an error.
fn write(file: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match file.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}
