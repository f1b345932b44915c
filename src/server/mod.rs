//! The accepting side: connections that are accepted, their TLS, and requests that are answered, with the same
//! records as a client's.
//!
//! | part | what it records |
//! |---|---|
//! | [`TraceListener`] | each connection that it accepts, with the operations of its socket |
//! | `TraceTlsAcceptor` (feature `tls`) | each handshake: name asked for, version, suite, ALPN, the client's certificate, resumption; failed ones with code and alert |
//! | [`TraceServerLayer`] | each request and what became of it |
//!
//! ```
//! use bytes::Bytes;
//! use http_body_util::Full;
//! use hyper::{Request, Response, body::Body, service::service_fn};
//! use hyper_util::{rt::{TokioExecutor, TokioIo}, server::conn::auto};
//! use nettrace::{TraceSink, server::{TraceListener, TraceServerLayer}};
//! use std::convert::Infallible;
//! use tower::Layer;
//!
//! async fn hello(_: Request<impl Body>) -> Result<Response<Full<Bytes>>, Infallible> {
//!     Ok(Response::new("hello".into()))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let sink = TraceSink::new();
//! let listener = TraceListener::new(&sink, tokio::net::TcpListener::bind("127.0.0.1:0").await?);
//! # let client = tokio::net::TcpStream::connect(listener.local_addr()?);
//! # let _client = tokio::spawn(async move {
//! #     use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
//! #     let mut client = client.await?;
//! #     client.write_all(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await?;
//! #     client.read_to_end(&mut vec![]).await
//! # });
//! loop {
//!     let (io, _) = listener.accept().await?;
//!     let service = TraceServerLayer::new(&sink).conn(io.conn_ref()).layer(service_fn(hello));
//!     let connection = async move {
//!         let server = auto::Builder::new(TokioExecutor::new());
//!         server.serve_connection_with_upgrades(TokioIo::new(io), service).await
//!     };
//! #   connection.await.unwrap();
//! #   assert_eq!(sink.snapshot("").http_requests[0].resp_status_code, 200);
//! #   break Ok(());
//! #   #[allow(unreachable_code)]
//!     tokio::spawn(connection);
//! }
//! # }
//! ```
//!
//! With axum (feature `axum`) a [`TraceListener`] is given to `axum::serve`, with tonic its
//! [`incoming`](TraceListener::incoming) to `serve_with_incoming`. How a request knows its connection there is said at
//! [`TraceServerLayer`].
//!
//! # What the records mean on this side
//!
//! A record of an accepted connection, tunnel or request says so: `accepted` is true. Addresses are this side's
//! view, `src` being its own. The words of the records are the client's, so that both ends of an exchange can be
//! compared field by field:
//!
//! | | client | server |
//! |---|---|---|
//! | `tcpConns`: `handshakeBeginAt`, `handshakeEndAt` | the TCP handshake | when the connection was handed to the program |
//! | `tlsTunnels`: `handshakeBeginAt` | the ClientHello is sent | the ClientHello is waited for |
//! | `httpRequests`: `reqSentAt` | handed to the client | its head had come; handed to the service |
//! | `connAcquiredAt` | it got a connection | the same |
//! | `reqBodyEndAt` | its body was handed to the connection | its body was read by the service |
//! | `respRecvAt` | the response's head came | the service gave it |
//! | `respBodyEndAt` | the response's body was read | its last part was handed to the connection |
//! | `reqContentLen`, `RespContentLen` | bytes of the two bodies, as far as they were moved | the same |
//!
//! So of the phases of a request, `send` is the time in which its body came, `wait` that which the service took,
//! `receive` that in which the response was sent; `blocked` is nothing.
//!
//! # How a request ends
//!
//! | `endReason` | `failure` | |
//! |---|---|---|
//! | `closed` | | all of the response was handed to the connection |
//! | `peer-closed` | | the client closed the connection before |
//! | `failed` | what broke the connection | it was broken before, as by a reset |
//! | `cancelled` | `interrupted` | the client did not want it any more (HTTP/2 says no more to a server), or this side dropped it |
//! | `failed` | `x_service_panicked` | the service panicked, or the response's body |
//! | `failed` | `x_response_body_error` | the response's body failed |
//! | `failed` | by its error | the service failed |

mod accept;
#[cfg(feature = "axum")]
mod axum;
mod body;
mod future;
mod incoming;
mod info;
mod layer;
mod listener;
mod panic_guard;
mod service;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tonic-server")]
mod tonic;
mod url;

#[cfg(feature = "tls")]
pub use self::tls::{TlsListener, TlsStream, TraceClientVerifier, TraceTlsAccept, TraceTlsAcceptor};
pub use self::{
    accept::Accept,
    body::ResponseBody,
    future::TraceServerFuture,
    incoming::Incoming,
    info::{ConnInfo, TracedStream},
    layer::TraceServerLayer,
    listener::TraceListener,
    service::TraceServer,
};
