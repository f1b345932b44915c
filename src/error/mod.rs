//! The error types of this crate, and the classifier that gives every error a stable code.
//!
//! Error types are here if several rooms must recognize each other's errors: a failed request has the connector's error
//! among its sources, and that has the resolver's. The types are plain data. [`classify`] is above them: it walks the
//! chain of an error, its own types and those of hyper, h2, rustls, tonic and reqwest, to find the code
//! ([`Failure`](crate::record::Failure)) and the text that a record keeps ([`FailureDetail`]).

#[cfg(feature = "request")]
mod body_lengths;
#[cfg(feature = "_record")]
pub(crate) mod classify;
#[cfg(feature = "resolve")]
mod connect;
#[cfg(feature = "client")]
mod decode;
mod failure_detail;
mod http2;
#[cfg(feature = "client")]
mod incomplete_body;
#[cfg(feature = "client")]
mod invalid_request;
#[cfg(any(feature = "resolve", feature = "tls"))]
mod no_runtime;
#[cfg(feature = "_record_conns")]
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

#[cfg(feature = "request")]
pub(crate) use body_lengths::BodyLengths;
#[cfg(feature = "resolve")]
pub(crate) use connect::ConnectErrorKind;
#[cfg(feature = "resolve")]
pub use connect::{ConnectAttempt, ConnectError};
#[cfg(feature = "client")]
pub use decode::DecodeError;
pub(crate) use failure_detail::FailureDetail;
pub(crate) use http2::http2_error_name;
#[cfg(feature = "client")]
pub use incomplete_body::IncompleteBody;
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

/// A boxed error of any type, such as that of a user's service, body or resolver.
#[cfg(any(feature = "connect", feature = "request", feature = "tls"))]
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
