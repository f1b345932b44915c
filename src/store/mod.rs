//! Stores: finished slices on disk, beyond the limits and the life of a sink.
//!
#![cfg_attr(unix, doc = "```")]
#![cfg_attr(not(unix), doc = "```ignore")]
//! use nettrace::{SliceFilter, TraceSink, store::{self, JsonLines}, view};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//! let lines = JsonLines::builder(directory).max_total_bytes(256 << 20).build()?;
//! let counts = lines.counts();
//! let failed_or_slow = SliceFilter::none().failed(true).slower_than(Duration::from_secs(1));
//! let sink = TraceSink::builder().on_slice(failed_or_slow, lines).build();
//! // … give the sink to a client, make requests …
//! sink.flush(Duration::from_secs(5)); // before the process exits
//! println!("{} slices written, {} lost", counts.written(), counts.lost());
//!
//! // Later, in any process: everything that is in the directory, as one trace.
//! let trace = store::read(directory)?;
//! println!("{}", view::summary(&trace));
//! # Ok(()) }
//! ```
//!
//! A *slice* is a finished request with everything that it refers to. [`JsonLines`] is a receiver of slices (see
//! [`TraceSinkBuilder::on_slice`](crate::TraceSinkBuilder::on_slice)) that appends each as one line of JSON to files in
//! a directory. [`read`] and [`Reader`] read them back.
//!
//! # One trace from many slices
//!
//! A connection that served several requests is in the slice of each, as far as it was known then. In the trace that
//! is read it occurs once, as in the slice where it had ended, or else in the latest one.
//!
//! Processes give equal identifiers to different records. If the slices come from more than one process, each
//! identifier begins with its process: `4711-k3f9q2.tid-1`. The part before the point is also in the names of the
//! process's files. In files with other names, such as one with lines that were chosen from several, slices with the
//! same `traceBeginAt` are taken for those of one process, and identifiers begin with that time. The times of all
//! records are relative to the earliest begin.

mod error;
mod file_name;
mod json_lines;
mod merge;
mod stored_record;

use crate::record::NetTrace;
use std::path::Path;

#[cfg(unix)]
pub use self::json_lines::{JsonLines, SliceCounts, builder::JsonLinesBuilder};
pub use self::{
    error::Error,
    json_lines::reader::{Reader, TornLine},
};

/// Reads a file of slices, or all files of a directory, as one trace.
///
/// At most 1 GiB is read. A last line that was cut off is left out: [`Reader`] tells of it and has another limit on
/// request.
///
/// # Errors
///
/// Returns an error if a file cannot be read, if there is none in the directory, if a line is not a trace, or if there
/// is more than the limit.
pub fn read(path: impl AsRef<Path>) -> Result<NetTrace, Error> {
    Reader::open(path)?.merge()
}
