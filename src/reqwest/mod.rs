//! reqwest 0.13, in two tiers: a client that stays as it is and is observed, or reqwest's types over our own
//! [`Client`](crate::Client).
//!
//! # Observed
//!
//! [`trace`] sets a client up, and [`send_traced`](RequestBuilderExt::send_traced) records a request; [`TraceClient`] is
//! a tower service, too. Everything that a reqwest client does it still does itself.
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
//! # In full depth
//!
//! [`send_through`](RequestBuilderExt::send_through) has our own client make the request, and [`ClientAdapter`] is that
//! as a service. The response is reqwest's, the error [`ClientError`](crate::client::ClientError). What fails in the
//! response's body is an error of reqwest's (`is_decode`), with the [`ClientError`](crate::client::ClientError) among
//! its sources; `is_timeout` answers for the time limits of our own client, too.
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
//! # What each sees
//!
//! | | observed | in full depth |
//! |---|---|---|
//! | requests, their status, sizes, header fields by policy, and the phases that a dial took | yes | yes |
//! | when a request got its connection, was sent, and the first byte came | only when a streamed body was sent | yes |
//! | redirects | each hop; header fields and the connection of the last alone | each hop in full |
//! | requests that are sent again, by a policy or on another connection | their dials | each connection, as `attempts` |
//! | the connection of a request, also kept alive or shared | by its addresses, where they leave no doubt | by identity |
//! | the same of a request that was dropped or timed out | no | yes |
//! | dials, and the request that caused each | yes | yes |
//! | DNS messages | yes; with a resolver of your own when it began and ended | yes |
//! | TCP attempts | the one that was established | each, with its own error |
//! | TLS: certificates, also those that were refused; server name, time, resumption, that `h2` was agreed on | yes | yes |
//! | TLS: version | of a handshake with certificates | yes |
//! | TLS: cipher suite, group, ALPN otherwise, alerts of ours | no | yes |
//! | operations and bytes of a connection, its close | no: it ends as `unobserved` | yes |
//! | what probes find | no | yes |
//! | a proxy | nobody says that there is one: the dial has the name of the target, its connection the proxy's address | as itself, with its CONNECT |
//! | a proxy's own handshake | as a tunnel, unless it resumes a session or the proxy then refuses | yes |
//!
//! In full depth cookies, proxies, default header fields, limits and whatever else there is to set on a reqwest client
//! do not count: choose them with [`Client::builder`](crate::Client::builder).
//!
//! # What is exact
//!
//! A dial and its handshakes are known from the poll that they run in, so that any number of them may run at once.
//! Of the connection that carried a response, reqwest tells nothing but two addresses. It is one of the client's own,
//! each of which was seen as it was made, and in one network namespace no two have the same addresses at the same time.
//! Where they were those of another connection before, a request that began in its time has no link rather than a
//! wrong one; so has one over a connection that was made while the sink was off, or that was not used while some
//! thousand others were. A connection without addresses, such as one to a Unix socket, is linked as long as it is the
//! only one that was ever made to the request's origin; it shows the path of the socket if the client was built with
//! [`TraceClientBuilder::build`].
//!
//! # What is changed
//!
//! The resolver and TLS, unless they are [chosen](Observer): names are looked up by
//! [`StubResolver`](crate::resolve::StubResolver), and the machine's own verifier decides whom to trust, with our choice
//! of cryptography and none of the process's. The bodies of responses, and streams that are sent, are handed on:
//! where one breaks, the chain of the error has up to two more of reqwest's links (`request or response body error`)
//! between the first and the cause. What `is_timeout`, `is_decode` and the rest answer is the same.
//!
//! With the feature `reqwest` of this crate, reqwest is built with its features `http2` and `rustls-no-provider`. A
//! reqwest client that is not set up here then needs a provider of the process, or reqwest's feature `rustls`.

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

/// Has a reqwest client observed: its dials, DNS messages, TLS handshakes and redirects, and the requests that are
/// [sent so](RequestBuilderExt::send_traced). [`Observer`] has the choices.
///
/// # Errors
///
/// As [`Observer::install`].
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
