//! Errors that this crate makes, and the stable codes of all errors that it meets.

pub(crate) mod classify;
#[cfg(feature = "resolve")]
mod connect;
#[cfg(feature = "client")]
mod decode;
#[cfg(feature = "client")]
mod invalid;
#[cfg(feature = "proxy")]
mod proxy;
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
#[cfg(feature = "proxy")]
pub(crate) use proxy::ProxyErrorKind;
#[cfg(feature = "proxy")]
pub use proxy::{InvalidProxy, ProxyError};
#[cfg(feature = "resolve")]
pub use resolve::ResolveError;
#[cfg(feature = "resolve")]
pub(crate) use resolve::{ResolveErrorKind, ResolveFault, rcode};
#[cfg(feature = "client")]
pub use timeout::{ClientClosed, TimedOut};
#[cfg(feature = "tls")]
pub use tls::TlsError;

use crate::record::{EndReason, Failure};
use std::{borrow::Cow, io};

/// Why something failed: the code, and the text for people.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    pub(crate) failure: Failure,
    text: Text,
}

#[derive(Clone, Debug, PartialEq)]
enum Text {
    Words(Cow<'static, str>),
    /// What the operating system says of this number is asked for when it is read.
    Os(i32),
}

impl Fault {
    /// Allocates nothing for a text of ours.
    pub(crate) fn new(failure: Failure, text: impl Into<Cow<'static, str>>) -> Self {
        Fault { failure, text: Text::Words(text.into()) }
    }

    pub(crate) fn into_parts(self) -> (Failure, String) {
        let text = match self.text {
            Text::Words(words) => words.into(),
            Text::Os(number) => io::Error::from_raw_os_error(number).to_string(),
        };
        (self.failure, text)
    }

    /// How that ends what it happened to, as far as the code tells.
    pub(crate) fn end_reason(&self) -> EndReason {
        match self.failure {
            Failure::GenericTimeoutError => EndReason::Timeout,
            _ => EndReason::Failed,
        }
    }
}
