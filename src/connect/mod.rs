//! Traced connections: a layer around any hyper connector, and a TCP connector that records every attempt.
//!
//! ```
//! use hyper_util::{client::legacy::{Client, connect::HttpConnector}, rt::TokioExecutor};
//! use nettrace::{TraceSink, connect::TraceConnectLayer};
//! use tower_layer::Layer;
//!
//! let sink = TraceSink::new();
//! let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
//! let client: Client<_, http_body_util::Empty<bytes::Bytes>> =
//!     Client::builder(TokioExecutor::new()).build(connector);
//! ```
//!
//! # Which type to use
//!
//! | you have | use | the trace has |
//! |---|---|---|
//! | a connector that has to stay: `HttpConnector` with settings, Unix sockets, your own | [`TraceConnectLayer`] around it | the dial, and the established connection with its bytes and socket operations |
//! | any other client over a hyper connector | [`TcpConnector`] (feature `resolve`) as its connector | also the DNS messages, and every TCP attempt with its own error |
//! | `TcpStream::connect`, for any protocol | `TcpConnector::connect` in its place | the same |
//! | streams of another runtime, such as smol | [`TracedIo::dial`] around the call that connects, with the feature `futures-io` | the dial, and the established connection |
//!
//! Each of them returns a [`TracedIo`], which implements the I/O traits of the stream inside it. Put TLS around the
//! traced connector, so that what is recorded are the operations of the socket. Where the connector itself speaks TLS,
//! say so with [`above_tls`](TraceConnectLayer::above_tls).
//!
#![cfg_attr(
    not(feature = "resolve"),
    doc = "[`TcpConnector`]: https://docs.rs/nettrace/latest/nettrace/connect/struct.TcpConnector.html"
)]

mod dial;
#[cfg(feature = "resolve")]
mod happy_eyeballs;
mod layer;
#[cfg(feature = "resolve")]
mod target;
#[cfg(feature = "resolve")]
mod tcp_connector;

#[cfg(feature = "reqwest")]
pub(crate) use self::layer::destination;
pub use self::{
    dial::StreamAddrs,
    layer::{TraceConnect, TraceConnectFuture, TraceConnectLayer},
};
#[cfg(feature = "resolve")]
pub use self::{
    target::Target,
    tcp_connector::{KeepAlive, TcpConnectFuture, TcpConnector},
};
#[cfg(feature = "resolve")]
pub use crate::error::{ConnectAttempt, ConnectError};
pub use crate::net::TracedIo;
