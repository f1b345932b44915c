//! The error of a body that cannot be decoded.

use super::BoxError;
use std::{error::Error, fmt};

/// An error returned when the body of a response does not have the `Content-Encoding` that its header declares.
#[derive(Debug)]
pub struct DecodeError(pub(crate) BoxError);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the response's body could not be decoded")
    }
}

impl Error for DecodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}
