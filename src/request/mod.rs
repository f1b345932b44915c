//! Middleware that records HTTP requests, around any `Service<http::Request<B>>`.
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
//! # What is recorded, and when
//!
//! Method, URL, times, status, sizes and failures of every request. The rest depends on what the client below reveals:
//!
//! | what | how |
//! |---|---|
//! | connection and tunnel | from the [`ConnRef`](crate::ConnRef::from_extensions) in the response's extensions or in the metadata of hyper-util's error |
//! | the same of a request that was dropped, and when it got the connection | with [`capture_connection`](TraceRequestLayer::capture_connection) |
//! | the same over hyper's own connections (`hyper::client::conn`) and pools of them | with an [`OnConnection`] around each |
//! | first byte | over HTTP/1 and a `TracedIo`, with `capture_connection` |
//! | the body of the response | unless it is left alone, with [`keep_response_body`](TraceRequestLayer::keep_response_body) |
//! | interim responses (1xx) | over HTTP/1, with [`informational`](TraceRequestLayer::informational) |

mod body;
pub(crate) mod failure;
mod future;
mod head;
mod layer;
mod mapper;
mod on_connection;
mod service;

#[cfg(feature = "client")]
pub(crate) use self::future::is_redirect;
pub use self::{
    body::{TraceBody, TraceResponseBody},
    future::TraceRequestFuture,
    head::{TraceHead, TraceHeadFuture, TraceHeadLayer},
    layer::TraceRequestLayer,
    mapper::{Boxed, MapBody, Typed},
    on_connection::{OnConnection, OnConnectionFuture},
    service::TraceRequest,
};
