//! The error of a TLS handshake or configuration.

use std::{error::Error, fmt, io, sync::Arc, time::Duration};

use super::NoRuntime;
use crate::record::Failure;

/// An error returned when a TLS connection cannot be established.
///
/// For a failed handshake, [`source`](Error::source) is the [`io::Error`] from tokio-rustls: an error of the socket, or
/// one that contains a `rustls::Error`. The text of this error does not repeat that of its source.
///
/// For unusable certificates or settings, the source is a readable text, and its source is the error of rustls
/// (`rustls::Error`) or of its PEM reader (`rustls::pki_types::pem::Error`).
#[derive(Debug)]
pub struct TlsError {
    pub(super) text: String,
    failure: Failure,
    source: Source,
    /// A hint that is appended to the text of the source.
    pub(super) hint: &'static str,
}

#[derive(Debug)]
enum Source {
    None,
    Io(io::Error),
    Shared(Arc<dyn Error + Send + Sync>),
}

impl TlsError {
    /// Returns the stable code of the failure, such as `ssl_unknown_authority`.
    pub fn failure(&self) -> Failure {
        self.failure.clone()
    }

    pub(crate) fn handshake(
        peer: impl fmt::Display,
        failure: Failure,
        error: io::Error,
        hint: &'static str,
    ) -> Self {
        TlsError {
            text: format!("TLS handshake with {peer} failed"),
            failure,
            source: Source::Io(error),
            hint,
        }
    }

    pub(crate) fn timeout(peer: impl fmt::Display, limit: Duration) -> Self {
        let error =
            io::Error::new(io::ErrorKind::TimedOut, format!("no end of the TLS handshake within {limit:?}"));
        TlsError {
            text: format!("TLS handshake with {peer} timed out"),
            failure: Failure::GenericTimeoutError,
            source: Source::Io(error),
            hint: "",
        }
    }

    pub(crate) fn no_runtime(peer: impl fmt::Display, error: NoRuntime) -> Self {
        Self::handshake(peer, Failure::NoRuntime, io::Error::other(error), "")
    }

    pub(crate) fn config(text: impl Into<String>, source: Option<Arc<dyn Error + Send + Sync>>) -> Self {
        Self::unusable(Failure::TlsConfiguration, text, source)
    }

    #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
    pub(crate) fn no_roots(text: impl Into<String>, source: Option<Arc<dyn Error + Send + Sync>>) -> Self {
        Self::unusable(Failure::NoRootCertificates, text, source)
    }

    pub(crate) fn unusable(
        failure: Failure,
        text: impl Into<String>,
        source: Option<Arc<dyn Error + Send + Sync>>,
    ) -> Self {
        TlsError { text: text.into(), failure, source: source.map_or(Source::None, Source::Shared), hint: "" }
    }

    /// Returns a copy of an error that every connection meets. An I/O source is left out.
    pub(crate) fn duplicate(&self) -> Self {
        let source = match &self.source {
            Source::Shared(error) => Source::Shared(error.clone()),
            Source::None | Source::Io(_) => Source::None,
        };
        TlsError { text: self.text.clone(), failure: self.failure.clone(), source, hint: self.hint }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for TlsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.source {
            Source::None => None,
            Source::Io(error) => Some(error),
            Source::Shared(error) => Some(&**error),
        }
    }
}
