//! [`Reader`]: reads files of slices.

use crate::{
    record::NetTrace,
    store::{
        error::{Error, ErrorKind},
        file_name::{FileName, JSON_LINES_EXTENSION},
        merge::Merger,
    },
};
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    vec,
};

/// An iterator over the slices in files of JSON Lines, in the order in which they were written.
///
/// ```
/// use nettrace::store::Reader;
///
/// # fn main() -> Result<(), nettrace::store::Error> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let directory = directory.path();
/// # std::fs::write(directory.join("a.jsonl"), "{}\n{\"dials\": [").unwrap();
/// let mut reader = Reader::open(directory)?.max_bytes(64 << 20);
/// for slice in &mut reader {
///     println!("{} requests", slice?.http_requests.len());
/// }
/// for torn in reader.torn_lines() {
///     eprintln!("{}:{}: cut off", torn.path.display(), torn.line);
/// }
/// # Ok(()) }
/// ```
///
/// Each slice is a trace of its own, with the identifiers that its process gave: records of several processes may have
/// equal ones. [`merge`](Self::merge) puts all slices together into one trace.
///
/// A line without a line feed at the end of a file is cut off if it is not a trace: the process that wrote it was
/// killed, or is writing it now. It is left out and noted in [`torn_lines`](Self::torn_lines).
#[derive(Debug)]
pub struct Reader {
    /// What was opened.
    path: PathBuf,
    is_directory: bool,
    /// The files that are left.
    files: vec::IntoIter<PathBuf>,
    current: Option<CurrentFile>,
    max_bytes: u64,
    bytes_read: u64,
    torn_lines: Vec<TornLine>,
}

/// A line at the end of a file that was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TornLine {
    /// The file.
    pub path: PathBuf,
    /// The number of the line, from 1.
    pub line: u64,
}

/// The file that is being read.
#[derive(Debug)]
struct CurrentFile {
    path: PathBuf,
    input: BufReader<File>,
    /// The number of the line that was read last, from 1.
    line: u64,
}

impl Reader {
    /// Opens a file, or all files of a directory whose names end in `.jsonl`.
    ///
    /// Files of a directory are read in the order of their names. Other files are ignored, and so is what is in
    /// directories below it.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be read or has no such file. Whether a file can be read is known when
    /// the first slice is.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let is_directory = path.is_dir();
        let files = if is_directory { list_files(path)? } else { vec![path.to_owned()] };
        Ok(Reader {
            path: path.to_owned(),
            files: files.into_iter(),
            is_directory,
            current: None,
            max_bytes: 1 << 30,
            bytes_read: 0,
            torn_lines: Vec::new(),
        })
    }

    /// Sets how many bytes are read at most. 1 GiB by default.
    #[must_use]
    pub fn max_bytes(self, bytes: u64) -> Self {
        Reader { max_bytes: bytes, ..self }
    }

    /// Returns the lines that were cut off, as far as files were read.
    pub fn torn_lines(&self) -> &[TornLine] {
        &self.torn_lines
    }

    /// Reads what is left, and puts all slices together into one trace.
    ///
    /// The [module](crate::store) says how records of several slices and identifiers of several processes are treated.
    ///
    /// # Errors
    ///
    /// Returns an error if a file cannot be read, if a line is not a trace, or if there is more to read than the limit.
    pub fn merge(&mut self) -> Result<NetTrace, Error> {
        let mut merger = Merger::default();
        while let Some((origin, slice)) = self.next_slice()? {
            merger.add(&origin, slice);
        }
        merger.finish().map_err(|error| Error::new(&self.path, ErrorKind::Merge(error)))
    }

    /// Returns the next slice, and the process that it comes from.
    fn next_slice(&mut self) -> Result<Option<(String, NetTrace)>, Error> {
        loop {
            let Some(mut file) = self.open_current()? else { return Ok(None) };
            let line = self.read_line(&mut file)?;
            if line.is_empty() {
                continue; // the end of the file
            }
            if line.trim_ascii().is_empty() {
                self.current = Some(file);
                continue;
            }
            match parse(&line) {
                Ok(slice) => {
                    let origin = file.origin(&slice);
                    self.current = Some(file);
                    return Ok(Some((origin, slice)));
                }
                Err(_) if !line.ends_with(b"\n") => {
                    self.torn_lines.push(TornLine { path: file.path, line: file.line });
                }
                Err((column, why)) => {
                    return Err(Error::new(&file.path, ErrorKind::Line { line: file.line, column, why }));
                }
            }
        }
    }

    /// Returns the file that is being read, or else the next one. Returns `None` if no file is left.
    fn open_current(&mut self) -> Result<Option<CurrentFile>, Error> {
        if let Some(file) = self.current.take() {
            return Ok(Some(file));
        }
        for path in self.files.by_ref() {
            match File::open(&path) {
                Ok(file) => return Ok(Some(CurrentFile { path, input: BufReader::new(file), line: 0 })),
                // A store removes its oldest files.
                Err(error) if self.is_directory && error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::new(&path, ErrorKind::Read(error))),
            }
        }
        Ok(None)
    }

    /// Returns the next line of a file with its line feed; an empty one at the end of the file.
    fn read_line(&mut self, file: &mut CurrentFile) -> Result<Vec<u8>, Error> {
        let left = self.max_bytes - self.bytes_read;
        let mut line = Vec::new();
        let read = file.input.by_ref().take(left.saturating_add(1)).read_until(b'\n', &mut line);
        let read = read.map_err(|error| Error::new(&file.path, ErrorKind::Read(error)))? as u64;
        if read > left {
            return Err(Error::new(&self.path, ErrorKind::TooLong(self.max_bytes)));
        }
        self.bytes_read += read;
        file.line += 1;
        Ok(line)
    }
}

impl Iterator for Reader {
    type Item = Result<NetTrace, Error>;

    /// Returns the next slice. After an error no slice follows.
    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_slice().map(|next| next.map(|(_, slice)| slice));
        if next.is_err() {
            self.files = Vec::new().into_iter();
        }
        next.transpose()
    }
}

impl CurrentFile {
    /// Returns which process a slice comes from: the one that began the file, or else what all slices of a sink have in
    /// common.
    fn origin(&self, slice: &NetTrace) -> String {
        let name = self.path.file_name().and_then(|name| name.to_str());
        match name.and_then(|name| FileName::parse(name, JSON_LINES_EXTENSION)) {
            Some(name) => name.process().to_owned(),
            None => slice.trace_begin_at.to_string(),
        }
    }
}

/// Returns the files of a directory, sorted by name.
fn list_files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let cannot_read = |error| Error::new(directory, ErrorKind::Read(error));
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(cannot_read)? {
        let path = entry.map_err(cannot_read)?.path();
        // Not a pipe, which might never end.
        if path.extension().is_some_and(|extension| extension == JSON_LINES_EXTENSION) && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(Error::new(directory, ErrorKind::NoFile));
    }
    files.sort();
    Ok(files)
}

/// Parses a line. Returns the column and the text of an error.
fn parse(line: &[u8]) -> Result<NetTrace, (usize, String)> {
    // Serde accepts a list as the fields of a struct in order.
    if line.trim_ascii_start().starts_with(b"[") {
        return Err((1, "a list, where a trace is an object".into()));
    }
    // Without the line feed, which would begin the second line.
    serde_json::from_slice(line.strip_suffix(b"\n").unwrap_or(line)).map_err(|error| {
        let text = error.to_string();
        // The position is printed already, and the line is always the first.
        let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
        (error.column(), text.to_owned())
    })
}
