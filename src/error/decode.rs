use std::{error::Error, fmt, io};

/// The body of a response came well, but is not in the encoding that it is said to be in, or has no end.
#[derive(Debug)]
pub struct DecodeError(io::Error);

impl DecodeError {
    pub(crate) fn new(error: io::Error) -> Self {
        DecodeError(error)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the response's body cannot be decoded")
    }
}

impl Error for DecodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}
