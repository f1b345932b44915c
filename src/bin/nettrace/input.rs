//! Reads files, stores of slices and standard input, with a limit.

use crate::output::{self, Problem};
use nettrace::{NetTrace, store::Reader};
use std::{
    error::Error,
    fs::File,
    io::{self, ErrorKind, Read},
    path::Path,
};

/// The maximum length of a trace in bytes. A path may lead to a device that never ends.
pub(crate) const MAX_TRACE_BYTES: u64 = 1 << 30;
/// The maximum length in bytes of a file with data for a request, which is held in memory.
pub(crate) const MAX_DATA_BYTES: u64 = 64 << 20;

/// Reads a file, or standard input for `-`. Stops early if `is_wanted` returns `false` for the first bytes.
pub(crate) fn read(
    path: &Path,
    max_bytes: u64,
    is_wanted: impl FnOnce(&[u8]) -> bool,
) -> io::Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        bounded(io::stdin().lock(), max_bytes, is_wanted)
    } else {
        bounded(File::open(path)?, max_bytes, is_wanted)
    }
}

/// Returns `true` if a path leads to slices, in a file of JSON Lines or a directory of them.
pub(crate) fn is_store(path: &Path) -> bool {
    let is_lines = path.extension().is_some_and(|extension| extension == "jsonl");
    !output::is_dash(path) && (is_lines || path.is_dir())
}

/// Reads slices as one trace. Warns of lines that were cut off.
pub(crate) fn read_store(path: &Path) -> Result<NetTrace, Problem> {
    let problem = |error: nettrace::store::Error| {
        let source = error.source().map_or(String::new(), |source| format!(": {source}"));
        Problem::failed(format!("{error}{source}"))
    };
    let mut reader = Reader::open(path).map_err(problem)?.max_bytes(MAX_TRACE_BYTES);
    let trace = reader.merge().map_err(problem)?;
    for torn in reader.torn_lines() {
        let place = format!("{}:{}", torn.path.display(), torn.line);
        output::warn(&format!("{place}: left out, since the end of the line is missing"));
    }
    Ok(trace)
}

fn bounded(
    mut input: impl Read,
    max_bytes: u64,
    is_wanted: impl FnOnce(&[u8]) -> bool,
) -> io::Result<Vec<u8>> {
    const PREFIX_BYTES: u64 = 64 << 10;
    let mut content = Vec::new();
    input.by_ref().take(PREFIX_BYTES).read_to_end(&mut content)?;
    if !is_wanted(&content) {
        return Ok(content);
    }
    input.take((max_bytes + 1).saturating_sub(content.len() as u64)).read_to_end(&mut content)?;
    if content.len() as u64 > max_bytes {
        let text = format!("it is longer than {} MiB", max_bytes >> 20);
        return Err(io::Error::new(ErrorKind::FileTooLarge, text));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endless_input_is_rejected() {
        let error = bounded(io::repeat(b'x'), 1 << 20, |_| true).unwrap_err();
        assert_eq!(error.to_string(), "it is longer than 1 MiB");
        assert_eq!(bounded(io::repeat(b'x'), 1 << 20, |_| false).unwrap().len(), 64 << 10);
        let whole = vec![b'x'; 1 << 20];
        assert_eq!(bounded(&whole[..], 1 << 20, |_| true).unwrap(), whole);
    }
}
