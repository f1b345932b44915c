//! The error of a request that cannot be sent as it is.

use std::{error::Error, fmt};

/// An error returned when a request is invalid and cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidRequest(pub(crate) &'static str);

impl fmt::Display for InvalidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request cannot be made: {}", self.0)
    }
}

impl Error for InvalidRequest {}
