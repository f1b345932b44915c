//! reqwest, in two tiers.

mod adapter;
mod builder_ext;
mod connector;
mod error;
mod future;
mod observer;
mod redirect;
mod resolver;
mod service;

pub use self::{
    adapter::{FullDepth, FullDepthFuture},
    builder_ext::{RequestBuilderExt, SendTraced},
    connector::{TraceConnector, TraceConnectorFuture, TraceConnectorLayer},
    error::ObserveError,
    future::TraceClientFuture,
    observer::Observer,
    resolver::Resolver,
    service::{TraceClient, TraceClientLayer},
};

use crate::sink::{RequestHandle, ResponseExt, TraceSink};

/// Has a reqwest client observed: its dials, DNS messages, TLS handshakes and redirects. Requests are recorded where
/// they are [sent so](RequestBuilderExt::send_traced).
///
/// Call it first, and set what else there is to set on what it gives back. [`Observer`] has the choices.
///
/// # Errors
///
/// As [`Observer::install`].
pub fn trace(
    builder: ::reqwest::ClientBuilder,
    sink: &TraceSink,
) -> Result<::reqwest::ClientBuilder, ObserveError> {
    Observer::new(sink).install(builder)
}

impl ResponseExt for ::reqwest::Response {
    fn request_handle(&self) -> Option<&RequestHandle> {
        RequestHandle::in_extensions(self.extensions())
    }
}
