//! Server middleware: records accepted connections, TLS handshakes and answered requests.
//!
//! | part | what it records |
//! |---|---|
//! | [`TraceListener`] | each connection that it accepts, with the operations of its socket |
//! | `TraceTlsAcceptor` (feature `tls`) | each handshake: server name, version, suite, ALPN, client certificate, resumption; failed ones with code and alert |
//! | [`TraceServerLayer`] | each request and its response |
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
//! For axum (feature `axum`), pass the [`TraceListener`] to `axum::serve`. For tonic, pass its
//! [`incoming`](TraceListener::incoming) to `serve_with_incoming`. [`TraceServerLayer`] describes how a request is
//! linked to its connection.
//!
//! # What the records mean on this side
//!
//! In the records of accepted connections, tunnels and requests, `accepted` is true. `src` addresses are those of this
//! side. The other fields have the same names as a client's, so that both ends of an exchange can be compared field by
//! field:
//!
//! | | client | server |
//! |---|---|---|
//! | `tcpConns`: `handshakeBeginAt`, `handshakeEndAt` | the TCP handshake | when the connection was handed to the program |
//! | `tlsTunnels`: `handshakeBeginAt` | the ClientHello is sent | the wait for the ClientHello begins |
//! | `httpRequests`: `reqSentAt` | handed to the client | its head arrived, handed to the service |
//! | `connAcquiredAt` | it got a connection | the same |
//! | `reqBodyEndAt` | its body was handed to the connection | its body was read by the service |
//! | `respRecvAt` | the response's head arrived | the service returned it |
//! | `respBodyEndAt` | the response's body was read | its last part was handed to the connection |
//! | `reqContentLen`, `RespContentLen` | bytes of the bodies that were transferred | the same |
//!
//! In the phases of a request, `send` is therefore the time in which its body arrived, `wait` the time of the service,
//! and `receive` the time in which the response was sent. There is no `blocked`.
//!
//! # Requests made by a handler
//!
//! A request that is made while a traced request is answered refers to that one (`triggeredBy`), if both are recorded
//! by the same sink: [`view::waterfall`](crate::view::waterfall) draws it below, and
//! [`NetTrace::slice`](crate::NetTrace::slice) of the served request contains it. This holds for what the service's
//! future and the response's body do in their own task. [`in_current_request`] takes it to a task that they spawn, and
//! [`RequestHandle::current`](crate::RequestHandle::current) returns the served request, for example to write a tag on
//! it.
//!
//! # How a request ends
//!
//! | `endReason` | `failure` | meaning |
//! |---|---|---|
//! | `closed` | | all of the response was handed to the connection |
//! | `peer-closed` | | the client closed the connection before that |
//! | `failed` | what broke the connection | the connection broke before that, for example by a reset |
//! | `cancelled` | `interrupted` | the client cancelled it (HTTP/2 reports no reason to a server), or this side dropped it |
//! | `failed` | `x_service_panicked` | the service or the response's body panicked |
//! | `failed` | `x_response_body_error` | the response's body failed |
//! | `failed` | that of its error | the service failed |

mod accept;
#[cfg(feature = "axum")]
mod axum;
mod body;
mod current;
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

#[cfg(all(feature = "axum", feature = "wire"))]
pub(crate) use self::axum::{accept as axum_accept, info as axum_info};
#[cfg(feature = "tls")]
pub use self::tls::{TlsListener, TlsStream, TraceClientVerifier, TraceTlsAccept, TraceTlsAcceptor};
pub use self::{
    accept::Accept,
    body::ResponseBody,
    current::{InCurrentRequest, in_current_request},
    future::TraceServerFuture,
    incoming::Incoming,
    info::{ConnInfo, TracedStream},
    layer::TraceServerLayer,
    listener::TraceListener,
    service::TraceServer,
};
