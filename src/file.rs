//! Reads files with a limit: a path may lead to a device that never ends.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    path::Path,
};

/// Reads a file of at most `max_mib` mebibytes.
///
/// # Errors
///
/// Returns an error if the file cannot be read. A longer file is an error of the kind
/// [`FileTooLarge`](ErrorKind::FileTooLarge).
pub(crate) fn read(path: &Path, max_mib: u64) -> io::Result<Vec<u8>> {
    let max_bytes = max_mib << 20;
    let mut content = Vec::new();
    File::open(path)?.take(max_bytes + 1).read_to_end(&mut content)?;
    if content.len() as u64 > max_bytes {
        let text = format!("the file is longer than {max_mib} MiB");
        return Err(io::Error::new(ErrorKind::FileTooLarge, text));
    }
    Ok(content)
}
