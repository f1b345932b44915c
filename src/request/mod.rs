//! HTTP requests: a layer around any `Service<http::Request<B>>`.
//!
//! ```
//! use hyper_util::{client::legacy::{Client, connect::HttpConnector}, rt::TokioExecutor};
//! use nettrace::{TraceSink, connect::TraceConnectLayer, request::{TraceBody, TraceRequestLayer}};
//! use tower_layer::Layer;
//!
//! type Body = http_body_util::Full<bytes::Bytes>;
//!
//! let sink = TraceSink::new();
//! let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
//! let client: Client<_, TraceBody<Body>> = Client::builder(TokioExecutor::new()).build(connector);
//! let client = TraceRequestLayer::new(&sink).layer(client);
//! # fn is_service<S: tower_service::Service<http::Request<Body>>>(_: S) {}
//! # is_service(client);
//! ```
//!
//! # What it knows
//!
//! | | how |
//! |---|---|
//! | connection and tunnel | by the [`ConnRef`](crate::ConnRef) in the response's extensions or in the metadata of hyper-util's error |
//! | also of a request that was dropped, and when it got the connection | with [`capture_connection`](TraceRequestLayer::capture_connection) |
//! | the same over connections of hyper's own, and pools of those | by an [`OnConnection`] around each |
//! | first byte | HTTP/1 over a `TracedIo`, with the same switch |
//! | interim responses | HTTP/1, with [`informational`](TraceRequestLayer::informational) |

mod body;
pub(crate) mod failure;
mod future;
mod layer;
mod mapper;
mod on_connection;
mod service;

#[cfg(feature = "client")]
pub(crate) use self::future::is_redirect;
pub use self::{
    body::{TraceBody, TraceResponseBody},
    future::TraceRequestFuture,
    layer::TraceRequestLayer,
    mapper::{Boxed, MapBody, Typed},
    on_connection::{OnConnection, OnConnectionFuture},
    service::TraceRequest,
};
