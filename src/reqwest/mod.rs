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
//! | requests, their status, sizes, header fields by policy, and the phases that a dial took | yes | yes |
//! | when a request got its connection, was sent, and when the first byte arrived | only when a streamed body was sent | yes |
//! | redirects | each hop; header fields and the connection of the last alone | each hop in full |
//! | requests that are sent again, by a policy or on another connection | only their dials | each connection, in `attempts` |
//! | the connection of a request, kept-alive and shared ones included | by its addresses, if they are unambiguous | by identity |
//! | the connection of a request that was dropped or timed out | no | yes |
//! | dials, and the request that caused each | yes | yes |
//! | DNS messages | yes; with another resolver only when it began and ended | yes |
//! | TCP attempts | the one that was established | each, with its own error |
//! | TLS: certificates, rejected ones included; server name, duration, resumption, whether `h2` was negotiated | yes | yes |
//! | TLS: version | of a handshake with certificates | yes |
//! | TLS: cipher suite, group, other ALPN protocols, alerts sent | no | yes |
//! | operations and bytes of a connection, its close | no: its end reason is `unobserved` | yes |
//! | data of probes | no | yes |
//! | a proxy | not reported: the dial has the name of the target, its connection the proxy's address | yes, with its CONNECT |
//! | TLS with a proxy | as a tunnel, unless it resumes a session or the proxy then refuses | yes |
//!
//! Requests through this crate's client ignore the settings of the reqwest client: cookies, proxies, default header
//! fields, limits and others. Set them with [`Client::builder`](crate::Client::builder).
//!
//! # How requests are linked to connections
//!
//! The dial and the handshakes of a connection are known by the poll in which they run, so that any number of them can
//! run at the same time. Of the connection that carried a response, reqwest reports only the two addresses. Each
//! connection of the client was observed when it was made, and in one network namespace no two connections have the
//! same addresses at the same time. If another connection had the same addresses before, a request that began in its
//! time is not linked, to avoid a wrong link. A request is not linked either if its connection was made while the sink
//! was off, or was not used while some thousand others were. A connection without addresses, such as one to a Unix
//! socket, is linked as long as it is the only one that was ever made to the request's origin. The path of the socket
//! is recorded if the client was built with [`TraceClientBuilder::build`].
//!
//! # What changes in the reqwest client
//!
//! The resolver and TLS change, unless they are [set](Observer): [`StubResolver`](crate::resolve::StubResolver) looks
//! names up, and the verifier of the operating system decides which certificates to trust, with a fixed crypto provider
//! and not that of the process. Bodies of responses and streamed bodies of requests are wrapped. If one fails, the
//! chain of the error has up to two more links of reqwest (`request or response body error`) between the first and the
//! cause. The results of `is_timeout`, `is_decode` and others do not change.
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
/// that are sent with [`send_traced`](RequestBuilderExt::send_traced). [`Observer`] has options.
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
