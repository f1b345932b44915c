//! The error of a response body that was cut off.

use super::{body_lengths::BodyLengths, http2_error_name};
use std::{error::Error, fmt};

/// An error returned when the body of a response ends before it is complete: before its `Content-Length`, or without
/// the end of its HTTP/2 stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncompleteBody {
    /// Bytes received and declared; `None` if no length was declared.
    pub(crate) lengths: Option<BodyLengths>,
    pub(crate) http2_error: Option<u32>,
}

impl IncompleteBody {
    /// Returns the declared length in bytes (`Content-Length`), or `None` if there was none.
    pub fn declared(&self) -> Option<u64> {
        self.lengths.map(|lengths| lengths.declared)
    }

    /// Returns the number of bytes received, or `None` if no length was declared.
    pub fn received(&self) -> Option<u64> {
        self.lengths.map(|lengths| lengths.received)
    }
}

impl fmt::Display for IncompleteBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.lengths {
            Some(lengths) => lengths.fmt(f)?,
            None => f.write_str("the response's body ended before it was complete")?,
        }
        match self.http2_error {
            Some(code) => write!(f, ": the HTTP/2 stream was reset ({})", http2_error_name(code)),
            None => Ok(()),
        }
    }
}

impl Error for IncompleteBody {}
