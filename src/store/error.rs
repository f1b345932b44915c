//! [`Error`]: why a store cannot be opened or read.

use std::{
    error, fmt, io,
    path::{Path, PathBuf},
};

/// An error of a store: a directory that cannot be used, or a file that cannot be read.
///
/// [`source`](error::Error::source) has the error of the system, if there is one.
#[derive(Debug)]
pub struct Error {
    path: PathBuf,
    kind: ErrorKind,
}

#[derive(Debug)]
pub(super) enum ErrorKind {
    /// The directory cannot be created.
    #[cfg(unix)]
    CreateDirectory(io::Error),
    /// A new file cannot be created in the directory.
    #[cfg(unix)]
    CreateFile(io::Error),
    /// The file system has no locks.
    #[cfg(unix)]
    Lock(io::Error),
    /// One file may be larger than all together.
    #[cfg(unix)]
    Limits { file: u64, total: u64 },
    /// A file or a directory cannot be read.
    Read(io::Error),
    /// The directory has no file that could be one of a store.
    NoFile,
    /// There is more to read than the limit, in bytes.
    TooLong(u64),
    /// A line is not a trace.
    Line { line: u64, column: usize, why: String },
    /// Slices cannot be put together.
    Merge(serde_json::Error),
}

impl Error {
    pub(super) fn new(path: &Path, kind: ErrorKind) -> Self {
        Error { path: path.to_owned(), kind }
    }

    /// Returns the directory or the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the number of the line that is not a trace, from 1; `None` if that is not the error.
    pub fn line(&self) -> Option<u64> {
        match self.kind {
            ErrorKind::Line { line, .. } => Some(line),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.kind {
            #[cfg(unix)]
            ErrorKind::CreateDirectory(_) => write!(f, "cannot create the directory {path}"),
            #[cfg(unix)]
            ErrorKind::CreateFile(_) => write!(f, "cannot create a file in {path}"),
            #[cfg(unix)]
            ErrorKind::Lock(_) => {
                write!(f, "cannot lock a file in {path}: choose a directory on a file system with flock(2)")
            }
            #[cfg(unix)]
            ErrorKind::Limits { file, total } => write!(
                f,
                "a file in {path} may have {file} bytes, but all together only {total}: set max_file_bytes to \
                 less, or max_total_bytes to more"
            ),
            ErrorKind::Read(_) => write!(f, "cannot read {path}"),
            ErrorKind::NoFile => write!(f, "cannot read {path}: it has no file whose name ends in .jsonl"),
            ErrorKind::TooLong(bytes) => {
                write!(f, "{path} is longer than {} MiB: read single files of it", bytes >> 20)
            }
            ErrorKind::Line { line, column, why } => write!(f, "{path}:{line}:{column}: {why}"),
            ErrorKind::Merge(_) => write!(f, "cannot put the slices of {path} together"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match &self.kind {
            #[cfg(unix)]
            ErrorKind::CreateDirectory(error) | ErrorKind::CreateFile(error) | ErrorKind::Lock(error) => {
                Some(error)
            }
            #[cfg(unix)]
            ErrorKind::Limits { .. } => None,
            ErrorKind::Read(error) => Some(error),
            ErrorKind::Merge(error) => Some(error),
            ErrorKind::NoFile | ErrorKind::TooLong(_) | ErrorKind::Line { .. } => None,
        }
    }
}
