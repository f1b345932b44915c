//! Bodies that cannot be decoded.

use std::{error::Error, fmt};

/// The body of a response is not what its `Content-Encoding` says.
#[derive(Debug)]
pub struct DecodeError(pub(crate) Box<dyn Error + Send + Sync>);

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
