//! The chain of an error and its sources.

use std::error::Error;
use std::{fmt, io};

/// Returns the error and its sources, from the outermost to the innermost.
pub fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// Returns the texts of the error and its sources.
pub fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    sources(error).map(ToString::to_string).collect()
}

/// Returns the first error of this type among the error and its sources.
pub fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    sources(error).find_map(|error| error.downcast_ref())
}

/// Returns the kind of the first I/O error among the error and its sources.
pub fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    find(error).map(io::Error::kind)
}

/// An error of the caller's own type, for instance of a request body.
#[derive(Debug, PartialEq, Eq)]
pub struct CallerError(pub u8);

impl fmt::Display for CallerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "out of paper in tray {}", self.0)
    }
}

impl Error for CallerError {}
