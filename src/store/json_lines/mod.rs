//! [`JsonLines`]: appends slices to files, one line of JSON each.
//!
//! `batch` has the lines that wait, `log_file` the file that they are appended to, `rotation` says when it is full, and
//! `directory` removes old ones. `reader` reads all of it.

#[cfg(unix)]
mod batch;
#[cfg(unix)]
pub(super) mod builder;
#[cfg(unix)]
mod directory;
#[cfg(unix)]
mod log_file;
pub(super) mod reader;
#[cfg(unix)]
mod rotation;
#[cfg(unix)]
mod writer;

#[cfg(unix)]
pub use self::writer::{JsonLines, SliceCounts};
