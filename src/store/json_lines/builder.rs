//! [`JsonLinesBuilder`]: where slices are written, and how many.

use super::{
    directory::Limits,
    log_file::{CreateError, LogFile},
    rotation::Rotation,
    writer::JsonLines,
};
use crate::store::error::{Error, ErrorKind};
use std::{path::PathBuf, time::Duration};

/// Builds a [`JsonLines`].
#[derive(Clone, Debug)]
#[must_use = "nothing is written until `build`"]
pub struct JsonLinesBuilder {
    directory: PathBuf,
    max_file_bytes: Option<u64>,
    max_file_age: Duration,
    limits: Limits,
}

const DEFAULT_MAX_FILE_BYTES: u64 = 64 << 20;

impl JsonLinesBuilder {
    /// Sets how many bytes a file has at most. 64 MiB by default, or a quarter of
    /// [`max_total_bytes`](Self::max_total_bytes) if that is less.
    ///
    /// A line that is longer has a file of its own.
    pub fn max_file_bytes(mut self, bytes: u64) -> Self {
        self.max_file_bytes = Some(bytes);
        self
    }

    /// Sets how long the same file is written to. One hour by default.
    ///
    /// The next file is begun with the first slice after that.
    pub fn max_file_age(mut self, age: Duration) -> Self {
        self.max_file_age = age;
        self
    }

    /// Sets how many bytes all files of the directory have together. 512 MiB by default.
    ///
    /// Those of other processes are included. The oldest files are removed whenever one is begun, so that there is room
    /// for a whole one. Each further process that writes to the directory may exceed this by one file.
    pub fn max_total_bytes(mut self, bytes: u64) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Sets how many files there are in the directory. 1,000 by default, at least one.
    ///
    /// Those of other processes are included. The oldest are removed, but never one that is written to.
    pub fn max_files(mut self, files: usize) -> Self {
        self.limits.files = files.max(1);
        self
    }

    /// Creates the directory if it does not exist, and the first file. Only its owner can read either.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory or a file cannot be created, if the file system has no locks, or if
    /// `max_file_bytes` is more than `max_total_bytes`.
    pub fn build(self) -> Result<JsonLines, Error> {
        let JsonLinesBuilder { directory, max_file_bytes, max_file_age, limits } = self;
        let max_bytes = max_file_bytes.unwrap_or(DEFAULT_MAX_FILE_BYTES.min(limits.bytes / 4));
        let rotation = Rotation { max_bytes, max_age: max_file_age };
        if rotation.max_bytes > limits.bytes {
            let kind = ErrorKind::Limits { file: rotation.max_bytes, total: limits.bytes };
            return Err(Error::new(&directory, kind));
        }
        let file = LogFile::create(&directory).map_err(|error| {
            let kind = match error {
                CreateError::Directory(error) => ErrorKind::CreateDirectory(error),
                CreateError::File(error) => ErrorKind::CreateFile(error),
                CreateError::Lock(error) => ErrorKind::Lock(error),
            };
            Error::new(&directory, kind)
        })?;
        Ok(JsonLines::new(directory, rotation, limits, file))
    }
}

impl JsonLines {
    /// Returns a builder of a store in this directory. The directory is created if it does not exist.
    pub fn builder(directory: impl Into<PathBuf>) -> JsonLinesBuilder {
        JsonLinesBuilder {
            directory: directory.into(),
            max_file_bytes: None,
            max_file_age: Duration::from_secs(60 * 60),
            limits: Limits { files: 1_000, bytes: 512 << 20 },
        }
    }
}
