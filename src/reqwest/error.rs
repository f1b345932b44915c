//! An error returned when a reqwest client cannot be set up to be observed.

use crate::{resolve::ResolverConfigError, tls::TlsError};
use std::{error::Error, fmt};

/// An error returned when a reqwest client cannot be set up to be observed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ObserveError {
    /// A setting of reqwest's builder that would have no effect any more. Set it with [`Observer`](super::Observer)
    /// instead.
    WouldBeLost(&'static str),
    /// There is no usable TLS configuration.
    Tls(TlsError),
    /// The resolver configuration of this machine cannot be read.
    Resolver(ResolverConfigError),
}

impl fmt::Display for ObserveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObserveError::WouldBeLost(setting) => write!(
                f,
                "{setting} was set on reqwest's builder before it is traced, and would be lost: choose it with nettrace::reqwest::Observer"
            ),
            ObserveError::Tls(error) => error.fmt(f),
            ObserveError::Resolver(error) => error.fmt(f),
        }
    }
}

impl Error for ObserveError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ObserveError::WouldBeLost(_) => None,
            ObserveError::Tls(error) => error.source(),
            ObserveError::Resolver(error) => error.source(),
        }
    }
}

impl From<TlsError> for ObserveError {
    fn from(error: TlsError) -> Self {
        ObserveError::Tls(error)
    }
}

impl From<ResolverConfigError> for ObserveError {
    fn from(error: ResolverConfigError) -> Self {
        ObserveError::Resolver(error)
    }
}
