//! Errors that this crate makes, and the stable codes of all errors that it meets.

pub(crate) mod classify;
#[cfg(feature = "resolve")]
mod connect;
#[cfg(feature = "client")]
mod decode;
mod http2;
#[cfg(feature = "request")]
#[cfg_attr(not(feature = "client"), allow(unreachable_pub, reason = "the client exports it"))]
mod incomplete_body;
#[cfg(feature = "client")]
mod invalid_request;
#[cfg(any(feature = "resolve", feature = "tls"))]
mod no_runtime;
mod os_text;
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
pub(crate) use http2::http2_error_name;
#[cfg(feature = "request")]
pub(crate) use incomplete_body::BodyLengths;
#[cfg(feature = "client")]
pub use incomplete_body::IncompleteBody;
#[cfg(all(feature = "request", not(feature = "client")))]
pub(crate) use incomplete_body::IncompleteBody;
#[cfg(feature = "client")]
pub use invalid_request::InvalidRequest;
#[cfg(any(feature = "resolve", feature = "tls"))]
pub(crate) use no_runtime::NoRuntime;
#[cfg(feature = "proxy")]
pub(crate) use proxy::ProxyErrorKind;
#[cfg(feature = "proxy")]
pub use proxy::{InvalidProxy, ProxyError};
#[cfg(feature = "resolve")]
pub use resolve::ResolveError;
#[cfg(feature = "resolve")]
pub(crate) use resolve::{LookupError, ResolveErrorKind, rcode};
#[cfg(feature = "client")]
pub use timeout::{ClientClosed, TimedOut};
#[cfg(feature = "tls")]
pub use tls::TlsError;

use crate::record::{
    EndReason, Failure,
    limits::{LimitedText, MAX_ERROR_BYTES},
};
use std::{borrow::Cow, num::NonZeroU32};

/// A boxed error of any type, such as that of a user's service, body or resolver.
#[cfg(any(feature = "request", feature = "resolve"))]
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why something failed: the code, and the text for people.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FailureDetail {
    pub(crate) failure: Failure,
    /// The error code of an HTTP/2 stream or connection (RFC 9113 section 7).
    pub(crate) http2_error: Option<u32>,
    text: Text,
}

#[derive(Clone, Debug, PartialEq)]
enum Text {
    Words(Cow<'static, str>),
    /// Boxed, as it is rare.
    Cut(Box<LimitedText>),
    /// What the operating system says of this number is asked for when it is read.
    Os(i32),
}

impl FailureDetail {
    /// Allocates nothing for a text of ours. Of a longer text than [`MAX_ERROR_BYTES`] the beginning is kept.
    pub(crate) fn new(failure: Failure, text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        let text = if text.len() <= MAX_ERROR_BYTES {
            Text::Words(text)
        } else {
            Text::Cut(Box::new(LimitedText::new(String::from(text), MAX_ERROR_BYTES)))
        };
        FailureDetail { failure, http2_error: None, text }
    }

    /// The code, the text, and how many bytes that had if it was cut.
    pub(crate) fn into_parts(self) -> (Failure, crate::record::Text, Option<NonZeroU32>) {
        let (text, original_bytes) = match self.text {
            Text::Words(Cow::Borrowed(words)) => (crate::record::Text::from_static(words), None),
            Text::Words(Cow::Owned(words)) => (words.into(), None),
            Text::Cut(cut) => (cut.text().clone(), cut.original_bytes()),
            Text::Os(number) => (os_text::os_text(number), None),
        };
        (self.failure, text, original_bytes)
    }

    /// The heap memory that it takes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let text = match &self.text {
            Text::Words(Cow::Owned(text)) => text.capacity(),
            Text::Cut(cut) => size_of::<LimitedText>() + cut.heap_bytes(),
            Text::Words(Cow::Borrowed(_)) | Text::Os(_) => 0,
        };
        text + self.failure.heap_bytes()
    }

    /// How that ends what it happened to, as far as the code tells.
    pub(crate) fn end_reason(&self) -> EndReason {
        match self.failure {
            Failure::GenericTimeoutError => EndReason::Timeout,
            _ => EndReason::Failed,
        }
    }
}
