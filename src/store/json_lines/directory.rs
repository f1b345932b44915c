//! Removes the oldest files of a directory, so that it has no more than it may.

use super::log_file::lock;
use crate::store::file_name::{FileName, JSON_LINES_EXTENSION};
use rustix::fs::{Mode, OFlags};
use std::{
    fs::{self, DirEntry, File},
    io,
    path::{Path, PathBuf},
};

/// What the files of a directory may have together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) files: usize,
    pub(super) bytes: u64,
}

struct OldFile {
    name: FileName,
    path: PathBuf,
    bytes: u64,
}

/// Removes the oldest files until those that are left are within the limits, except for those that a store still
/// writes, in this process or another one. Files with other names are neither counted nor removed.
///
/// # Errors
///
/// Returns an error if the directory cannot be read. A file that cannot be removed is left.
pub(super) fn remove_oldest(directory: &Path, limits: Limits) -> io::Result<()> {
    let mut files: Vec<_> = fs::read_dir(directory)?.flatten().filter_map(old_file).collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    let (mut count, mut bytes) = (files.len(), files.iter().map(|file| file.bytes).sum::<u64>());
    for file in files {
        if count <= limits.files && bytes <= limits.bytes {
            break;
        }
        if remove_unless_in_use(&file.path) {
            count -= 1;
            bytes -= file.bytes;
        }
    }
    Ok(())
}

fn old_file(entry: DirEntry) -> Option<OldFile> {
    let name = FileName::parse(entry.file_name().to_str()?, JSON_LINES_EXTENSION)?;
    let metadata = entry.metadata().ok().filter(|metadata| metadata.is_file())?;
    Some(OldFile { name, path: entry.path(), bytes: metadata.len() })
}

/// Returns `true` if the file is gone.
fn remove_unless_in_use(path: &Path) -> bool {
    // Neither what a symbolic link leads to nor a pipe: somebody may have put one in the place of the file.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(error) => return is_gone(Err(error.into())),
    };
    // The lock is held until the file is removed, so that no store begins to write it.
    matches!(lock(&file), Ok(true)) && is_gone(fs::remove_file(path))
}

/// Another process may remove the same files.
fn is_gone(removed: io::Result<()>) -> bool {
    removed.map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |()| true)
}
