//! Traces reqwest 0.13: a reqwest client that is observed, or reqwest's types over this crate's
//! [`Client`](crate::Client).
//!
//! # Observed client
//!
//! [`trace`] sets a client up, and [`send_traced`](RequestBuilderExt::send_traced) records a request. [`TraceClient`]
//! is also a tower service. The reqwest client itself makes the requests, so that its behavior does not change.
//!
#![cfg_attr(any(feature = "ring", feature = "aws-lc-rs"), doc = "```no_run")]
#![cfg_attr(not(any(feature = "ring", feature = "aws-lc-rs")), doc = "```ignore")]
//! use nettrace::{ResponseExt, TraceSink, reqwest::RequestBuilderExt, view};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let sink = TraceSink::new();
//! let builder = reqwest::Client::builder().user_agent("me/1.0");
//! let client = nettrace::reqwest::trace(builder, &sink)?.build()?; // <- instead of `builder.build()`
//!
//! let sent = client.get("https://example.com/").send_traced(&client); // <- instead of `send()`
//! let request = sent.request_handle().clone();
//! match sent.await {
//!     Ok(response) => println!("{} after {}", response.status(), response.timings()?),
//!     Err(error) => eprintln!("{error}\n{}", view::waterfall(&request.trace())),
//! }
//! # Ok(()) }
//! ```
//!
//! # Requests through this crate's client
//!
//! With [`send_through`](RequestBuilderExt::send_through), or [`ClientAdapter`] as a service, this crate's client makes
//! the request, which is then recorded in full depth. The response is reqwest's, the error a
//! [`ClientError`](crate::client::ClientError). An error in the response's body is one of reqwest's (`is_decode`) with
//! the [`ClientError`](crate::client::ClientError) among its sources. `is_timeout` is true for the timeouts of this
//! crate's client, too.
//!
//! ```no_run
//! use nettrace::{Client, ResponseExt, TraceSink, reqwest::RequestBuilderExt};
//!
//! # async fn example(reqwest: reqwest::Client) -> Result<(), Box<dyn std::error::Error>> {
//! let sink = TraceSink::new();
//! let client = Client::builder(&sink).build()?;
//! let response = reqwest.get("https://example.com/").send_through(&client).await?;
//! println!("{} after {}", response.url(), response.timings()?);
//! # Ok(()) }
//! ```
//!
//! # What is recorded
//!
//! | | observed client | this crate's client |
//! |---|---|---|
//! | requests: status, sizes, header fields as the sink's policy allows, and the phases of the dial | yes | yes |
//! | when a request got its connection, was sent, and when the first byte arrived | only when a streamed body was sent | yes |
//! | redirects | each hop; header fields and the connection of the last alone | each hop in full |
//! | requests that are sent again, by a policy or on another connection | only their dials | each connection, in `attempts` |
//! | the connection of a request, also if it is reused or shared | by its addresses, if they are unambiguous | by identity |
//! | the connection of a request that was dropped or timed out | no | yes |
//! | dials, and the request that caused each | yes | yes |
//! | DNS messages | yes; with another resolver only when it began and ended | yes |
//! | TCP attempts | the one that was established | each, with its own error |
//! | TLS: certificates, rejected ones included; server name, duration, resumption, whether `h2` was negotiated | yes | yes |
//! | TLS: version | only if the server sent certificates | yes |
//! | TLS: cipher suite, group, other ALPN protocols, alerts sent | no | yes |
//! | operations and bytes of a connection, its close | no: its end reason is `unobserved` | yes |
//! | data of probes | no | yes |
//! | a proxy | not reported: the dial has the name of the target, its connection the proxy's address | yes, with its CONNECT |
//! | the TLS handshake with an HTTPS proxy | yes, unless it resumes a session, or the proxy refuses to connect after it | yes |
//!
//! Requests through this crate's client ignore the settings of the reqwest client: cookies, proxies, default header
//! fields, limits and others. Set them with [`Client::builder`](crate::Client::builder).
//!
//! # How requests are linked to connections
//!
//! A connection is linked to its dial and its TLS handshakes because they run in polls of the same future. Any number
//! of them can run at the same time.
//!
//! A request is linked to its connection by addresses: reqwest reports the local and the remote address of the
//! connection that carried a response, and nothing else. They are looked up among the connections that the client has
//! made. At any time only one connection of a network namespace has these addresses. Rather than guess, a request is
//! not linked in these cases:
//!
//! - An earlier connection had the same addresses, and the request began before the later one was made. Either may have
//!   carried it.
//! - Its connection was made while the sink was off.
//! - Its connection has been forgotten: the client remembers those that were used last, some thousands.
//!
//! A connection without addresses, such as one to a Unix socket, is linked as long as it is the only one that was ever
//! made to the request's origin. The path of the socket is recorded if the client was built with
//! [`TraceClientBuilder::build`].
//!
//! # What changes in the reqwest client
//!
//! The resolver and the TLS configuration are replaced by these defaults, unless an [`Observer`] sets others:
//! [`StubResolver`](crate::resolve::StubResolver) looks names up, and the verifier of the operating system decides
//! which certificates to trust. TLS uses a crypto provider that this crate chooses, not the default of the process.
//!
//! For a sink that is off for good, [disabled](TraceSink::disabled) or closed, only TLS is replaced, which may otherwise
//! need a crypto provider of the process. A request then costs what it costs without tracing.
//!
//! Bodies of responses and streamed bodies of requests are wrapped. If one fails, the chain of the error has up to two
//! more errors of reqwest (`request or response body error`) between the first and the cause. The results of
//! `is_timeout`, `is_decode` and others do not change.
//!
//! The feature `reqwest` of this crate enables reqwest's features `http2` and `rustls-no-provider`. A reqwest client
//! that is not set up here then needs a crypto provider of the process, or reqwest's feature `rustls`.

mod adapter;
mod addr_index;
mod builder_ext;
mod client;
mod connector;
mod error;
mod future;
mod observer;
mod redirect;
mod resolver;
mod settings;

pub use self::{
    adapter::{ClientAdapter, ClientAdapterFuture},
    builder_ext::{RequestBuilderExt, SendTraced},
    client::{TraceClient, TraceClientBuilder},
    connector::{TraceConnector, TraceConnectorFuture, TraceConnectorLayer},
    error::ObserveError,
    future::TraceClientFuture,
    observer::Observer,
    resolver::Resolver,
};

use crate::sink::{RequestHandle, ResponseExt, TraceSink};

/// Sets a reqwest client up to be observed: its dials, DNS messages, TLS handshakes and redirects, and the requests
/// that are sent with [`send_traced`](RequestBuilderExt::send_traced). For options, use [`Observer`].
///
/// # Errors
///
/// Returns the errors of [`Observer::install`].
pub fn trace(
    builder: ::reqwest::ClientBuilder,
    sink: &TraceSink,
) -> Result<TraceClientBuilder, ObserveError> {
    Observer::new(sink).install(builder)
}

impl ResponseExt for ::reqwest::Response {
    fn request_handle(&self) -> Option<&RequestHandle> {
        RequestHandle::from_extensions(self.extensions())
    }
}
