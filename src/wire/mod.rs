//! HTTP requests that are read from the bytes of a connection, for clients and servers that take no layer around them.
//!
//! A library that fixes the type of its client, such as `tonic::transport::Channel` or hyper-util's `Client`, leaves
//! nothing to wrap but its connector. [`TraceWireLayer`] goes around that, and reads the HTTP that passes:
//!
//! ```
//! use http_body_util::{BodyExt, Empty};
//! use hyper_util::{client::legacy::{Client, connect::HttpConnector}, rt::TokioExecutor};
//! use nettrace::{TraceSink, connect::TraceConnectLayer, wire::TraceWireLayer};
//! use tower_layer::Layer;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let uri: http::Uri = format!("http://{}/hello", server.local_addr()?).parse()?;
//! # tokio::spawn(async move {
//! #     use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
//! #     let (mut conn, _) = server.accept().await.unwrap();
//! #     conn.read(&mut [0; 1000]).await.unwrap();
//! #     conn.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
//! # });
//! let sink = TraceSink::new();
//! let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
//! let connector = TraceWireLayer::new(&sink).layer(connector);
//!
//! // The client of a library, as it is.
//! let client: Client<_, Empty<bytes::Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
//! client.get(uri).await?.into_body().collect().await?;
//!
//! let trace = sink.snapshot("");
//! assert_eq!(trace.http_requests[0].resp_status_code, 200);
//! assert!(trace.http_requests[0].seen_on_wire);
//! # Ok(()) }
//! ```
//!
//! # Where to put it
//!
//! | the connection is made by | put the layer around | the trace has |
//! |---|---|---|
//! | a plain connector | [`TraceConnectLayer`](crate::connect::TraceConnectLayer) or `TcpConnector` | requests, connections |
//! | the same with `TraceTlsLayer` | that layer | also the tunnel of each request |
//! | a connector that does TLS itself, such as hyper-rustls | that connector, if the one inside it is traced; or `TraceConnectLayer` around it, with `above_tls` | requests, connections |
//! | a `TraceListener` or `TlsListener` | [`WireListener`] around it | accepted requests |
//!
//! What is read has to be HTTP. Around a connector below TLS, the reader sees TLS and stops. tonic adds its own TLS above
//! any connector: `connect_with_connector` with an `http` URI can be read, or one with a TLS layer of this crate.
//!
//! # What is recorded
//!
//! HTTP/1.1 and HTTP/1.0 with pipelining, chunks, interim responses and upgrades, and HTTP/2 with its streams, trailers
//! and the status of gRPC. A record has the same fields as one of
//! [`TraceRequestLayer`](crate::request::TraceRequestLayer), and is marked `seenOnWire`. It differs in this:
//!
//! - Its times are those at which bytes passed, so that there is no time for which it waited for a connection. Over
//!   HTTP/2, too, the time of the first byte is known.
//! - It begins when the request is sent. One that fails before, as when no connection can be made, has no record: the
//!   dial has.
//! - Lengths are those on the wire, before a `Content-Encoding` is decoded.
//! - A request that the client sends again, or sends to where it was redirected, is another record without a link.
//!
//! Where a layer around the client or the service records the requests, they are left to that, so that there is one record
//! of each. This is decided for a connection as a whole:
//!
//! - On the side of a client, its requests are left to a layer if it was dialed for a recorded request, or once a recorded
//!   request was given to it. So a client without a layer of its own is not read inside a traced request.
//! - On the side of a server, a layer is known only when it has been called. So a request is recorded when its response
//!   begins or its connection ends, and is in no trace before that. The layer must know the connection (see
//!   [`TraceServerLayer`](crate::server::TraceServerLayer)), and see all requests that come over it.
//!
//! # What cannot be read
//!
//! The reader changes nothing and holds nothing back. When it cannot follow, it stops, and the connection goes on:
//! [`WireTrace`](crate::record::WireTrace) has the reason. Requests without a complete response end as
//! [`Unobserved`](crate::record::EndReason::Unobserved) then.
//!
//! A connection takes less than a kilobyte over HTTP/1 and some kilobytes over HTTP/2 as a rule. Against a peer that sends
//! as much as it can, each direction is limited to 128 KiB for a head or a block of fields that comes in pieces, to 128 KiB
//! for the table of HPACK, and to as much again while a block is decoded. A request in flight takes up to 128 KiB if header
//! fields are recorded, and as much as its URL otherwise. Bodies are counted and never kept. Header fields, credentials and
//! queries are subject to the policy of the sink as elsewhere.

mod bytes;
mod context;
mod exchange;
mod http1;
mod http2;
mod io;
mod layer;
#[cfg(feature = "server")]
mod listener;
mod reader;
mod request_url;
mod section;

#[cfg(feature = "server")]
pub use self::listener::WireListener;
pub use self::{
    io::WireIo,
    layer::{TraceWire, TraceWireFuture, TraceWireLayer},
};
