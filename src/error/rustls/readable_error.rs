//! [`ReadableError`]: an error of rustls as a source of an error of this crate.

use std::{error, fmt};

use rustls::{Error, pki_types::pem};

use super::readable_text::rustls_text;
use crate::error::BoxError;

/// An error of rustls or of its PEM reader with a readable text. Its [`source`](error::Error::source) is the original
/// error.
#[derive(Debug)]
pub(crate) struct ReadableError {
    text: String,
    error: BoxError,
}

impl ReadableError {
    pub(crate) fn new(error: Error) -> Self {
        ReadableError { text: rustls_text(&error), error: error.into() }
    }

    /// Creates a readable error of the PEM reader, whose own text shows lines of the file as lists of numbers.
    pub(crate) fn pem(error: pem::Error) -> Self {
        let text = match &error {
            pem::Error::MissingSectionEnd { end_marker } => {
                format!("the line `-----END {}-----` is missing", end_marker.escape_ascii())
            }
            pem::Error::IllegalSectionStart { .. } => "a `-----BEGIN` line is malformed".to_owned(),
            other => other.to_string(),
        };
        ReadableError { text, error: error.into() }
    }
}

impl fmt::Display for ReadableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl error::Error for ReadableError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&*self.error)
    }
}
