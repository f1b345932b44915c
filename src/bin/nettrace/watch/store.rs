//! Slices of a store, which is read on where it was left.

use crate::output::{self, Problem};
use nettrace::NetTrace;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// A file of JSON Lines, or a directory of them.
pub(super) struct Store {
    path: PathBuf,
    /// How far each file was read, by the order in which files were begun.
    files: BTreeMap<PathBuf, u64>,
}

/// How far before the end of a file reading begins: what is older is not shown.
const FIRST_BYTES: u64 = 1 << 20;
/// The maximum number of bytes that are read of a file at a time.
const MAX_BYTES: u64 = 256 << 20;

impl Store {
    /// Opens a store whose last slices are read first.
    pub(super) fn open(path: &Path) -> Result<Self, Problem> {
        let mut store = Store { path: path.to_owned(), files: BTreeMap::new() };
        let files = store.list()?;
        let newest = files.last().cloned();
        for file in files {
            let len = fs::metadata(&file).map_err(|error| cannot_read(&file, &error))?.len();
            let unread = if Some(&file) == newest.as_ref() { FIRST_BYTES } else { 0 };
            store.files.insert(file, len.saturating_sub(unread));
        }
        Ok(store)
    }

    /// Returns the slices that were written since the last call.
    pub(super) fn new_slices(&mut self) -> Result<Vec<NetTrace>, Problem> {
        let mut slices = Vec::new();
        let files = self.list()?;
        self.files.retain(|file, _| files.contains(file));
        for file in files {
            let offset = self.files.entry(file.clone()).or_default();
            match read_lines(&file, offset) {
                Ok(lines) => {
                    slices.extend(lines.split(|byte| *byte == b'\n').filter_map(|line| slice(line, &file)))
                }
                // A store removes its oldest files.
                Err(error) if error.kind() == ErrorKind::NotFound && file != self.path => {}
                Err(error) => return Err(cannot_read(&file, &error)),
            }
        }
        Ok(slices)
    }

    /// Returns the files in the order in which they were begun.
    fn list(&self) -> Result<Vec<PathBuf>, Problem> {
        if !self.path.is_dir() {
            return Ok(vec![self.path.clone()]);
        }
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(|error| cannot_read(&self.path, &error))? {
            let path = entry.map_err(|error| cannot_read(&self.path, &error))?.path();
            // Not a pipe, which might never end.
            if path.extension().is_some_and(|extension| extension == "jsonl") && path.is_file() {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}

/// Returns the whole lines of a file that begin after `offset`, and moves it to their end. A file that has become shorter
/// is read from its beginning.
fn read_lines(path: &Path, offset: &mut u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() < *offset {
        *offset = 0;
    }
    file.seek(SeekFrom::Start(*offset))?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    bytes.truncate(whole);
    *offset += whole as u64;
    Ok(bytes)
}

/// Returns the slice of a line. Warns of one that is not a slice, unless it is the rest of a line whose beginning was not
/// read.
fn slice(line: &[u8], path: &Path) -> Option<NetTrace> {
    if !line.starts_with(b"{") {
        return None;
    }
    match serde_json::from_slice(line) {
        Ok(slice) => Some(slice),
        Err(error) => {
            output::warn(&format!("{}: a line is not a trace: {error}", path.display()));
            None
        }
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> Problem {
    Problem::failed(format!("cannot read {}: {error}", path.display()))
}
