//! Errors that this crate makes, and the stable codes of all errors that it meets.

pub(crate) mod classify;
#[cfg(feature = "resolve")]
mod connect;
#[cfg(feature = "client")]
mod decode;
#[cfg(feature = "client")]
mod invalid;
#[cfg(feature = "resolve")]
mod resolve;
#[cfg(feature = "tls")]
pub(crate) mod rustls;
#[cfg(feature = "client")]
mod timeout;
#[cfg(feature = "tls")]
mod tls;

#[cfg(feature = "resolve")]
pub(crate) use connect::ConnectErrorKind;
#[cfg(feature = "resolve")]
pub use connect::{ConnectAttempt, ConnectError};
#[cfg(feature = "client")]
pub use decode::DecodeError;
#[cfg(feature = "client")]
pub use invalid::InvalidRequest;
#[cfg(feature = "resolve")]
pub use resolve::ResolveError;
#[cfg(feature = "resolve")]
pub(crate) use resolve::{ResolveErrorKind, ResolveFault, rcode};
#[cfg(feature = "client")]
pub use timeout::{ClientClosed, TimedOut};
#[cfg(feature = "tls")]
pub use tls::TlsError;

use crate::record::{EndReason, Failure};

/// Why something failed: the code, and the text for people.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) failure: Failure,
    pub(crate) text: Box<str>,
}

impl Fault {
    pub(crate) fn new(failure: Failure, text: impl Into<Box<str>>) -> Self {
        Fault { failure, text: text.into() }
    }

    /// How that ends what it happened to, as far as the code tells.
    pub(crate) fn end_reason(&self) -> EndReason {
        match self.failure {
            Failure::GenericTimeoutError => EndReason::Timeout,
            _ => EndReason::Failed,
        }
    }
}
