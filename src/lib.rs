//! Shows what happened behind a network request: every dial, DNS message, TCP attempt, TLS handshake, socket operation
//! and HTTP request.
//!
//! Each of them is a record, linked to the records it came from. Tower layers and services write the records to a
//! [`TraceSink`]. [`TraceSink::snapshot`] returns them as a [`NetTrace`], which [`view::waterfall`] draws and which has
//! a JSON form. The layers are independent, so that a client takes on the ones it wants; `Client` is a ready
//! composition.
//!
#![cfg_attr(feature = "client", doc = "```no_run")]
#![cfg_attr(not(feature = "client"), doc = "```ignore")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use nettrace::{Client, ResponseExt, TraceSink, view};
//!
//! let sink = TraceSink::new();
//! let client = Client::builder(&sink).build()?;
//! match client.get("https://example.com/").await {
//!     Ok(response) => println!("{}", response.timings()?),
//!     // The trace of the request that failed says why.
//!     Err(error) => eprintln!("{error}\n{}", view::waterfall(&error.request().trace())),
//! }
//! # Ok(()) }
//! ```
//!
//! # What to use
//!
//! | you have | use | module |
//! |---|---|---|
//! | no HTTP client yet | `Client` | [`client`] |
//! | a client of hyper-util | `TraceConnectLayer` around its connector, `TraceRequestLayer` around the client | [`connect`], [`request`] |
//! | the same, with DNS messages and every TCP attempt | `TcpConnector` as its connector | [`connect`], [`resolve`] |
//! | the same, with TLS handshakes | `TraceTlsLayer` around the connector | [`tls`] |
//! | the same, through a proxy | `ProxyLayer` around the connector, below TLS | [`proxy`] |
//! | a pool of your own over hyper's connections | the same, and `OnConnection` around each connection | [`request`] |
//! | any other `Service<http::Request<B>>` | `TraceRequestLayer` around it | [`request`] |
//! | a generated client of tonic | a traced channel | [`tonic`] |
//! | a client of reqwest | `reqwest::trace` to observe it, `send_through` to have `Client` make its requests | [`reqwest`] |
//! | a library that fixes its client's type and takes a connector | `TcpConnector`, or `TraceConnectLayer` around its own, and `TraceWireLayer` around that | [`connect`], [`wire`] |
//! | `TcpStream::connect`, for any protocol | `TcpConnector::connect` | [`connect`] |
//! | streams of another runtime, such as smol | `TracedIo::dial` | [`connect`] |
//! | a library that dials by itself and takes an address | a `Relay` to its server | [`relay`] |
//! | a resolver of your own | `TraceResolveLayer` around it | [`resolve`] |
//! | a server of hyper, axum or tonic | `TraceListener`, `TraceTlsAcceptor` and `TraceServerLayer` | [`server`] |
//! | a page of the running program that shows its requests, and metrics for Prometheus | `DebugPage` | [`debug_page`] |
//! | logs | [`TracingEvents`]: finished records as events of `tracing` | – |
//! | a program that handles each record as it ends | a [`Subscriber`] | – |
//! | a question that only the kernel can answer (Linux) | `TcpInfoProbe`, `TimestampingProbe`, `ConntrackProbe` | [`linux`] |
//! | Wireshark | `CaptureProbe` for packets, `KeyLog` for the secrets of TLS | [`capture`], [`tls`] |
//! | a trace in a file, also one of the Go package `nettrace` | [`NetTrace`], which is deserialised from it | [`record`], [`view`] |
//! | more requests than memory has room for, or those of yesterday | a `store` of finished slices | `store`, [`record`] |
//! | OpenTelemetry | `export::otlp_json::OtlpJson`, which writes a trace as spans in OTLP JSON | `export` |
//! | a trace, and the question why a request failed | `explain::explain`, `view::summary`, `view::table`, `record::RequestFilter` | `explain`, [`record`], [`view`] |
//!
//! Each module is behind the feature of its name, with these exceptions:
//!
//! | feature | |
//! |---|---|
//! | `client` (default) | also enables `connect`, `resolve`, `encrypted-dns`, `proxy`, `tls` and `request` |
//! | `resolve` | also enables `connect`, and in it `TcpConnector` |
//! | `encrypted-dns` | nameservers of `resolve` over TLS and HTTPS; also enables `request`, `resolve` and `tls` |
//! | `ring` (default), `aws-lc-rs` | the cryptography that `tls` needs, unless it is given a complete configuration of rustls |
//! | `axum`, `tonic-server` | the parts of `server` for these servers; they enable `server` |
//! | `tcp-info`, `timestamping`, `conntrack` | the probes of `linux`; `timestamping` also enables `resolve` |
//! | `debug-page` | the module `debug_page` |
//! | `futures-io` | the traits of that crate for `connect::TracedIo` |
//! | `store-jsonl` | `store`, with JSON Lines |
//! | `otlp-json` | spans for OpenTelemetry, in `export`; also enables `explain` |
//! | `cli` | the command `nettrace` |
//! | `full` | everything but the choice of cryptography |
//!
//! The [`guides`] have a chapter with complete programs for most of these.
//!
//! # How records nest
//!
//! A record lies within the one above it, except where a line says otherwise.
//!
//! ```text
//! HTTP request                       one for each hop of a redirect (prevHop)
//! ├─ dial                            triggeredBy the request; a pooled connection needs none
//! │  ├─ resolver dial ─ UDP or TCP connection to a nameserver
//! │  │  └─ DNS query                 all messages of that connection
//! │  ├─ resolver dial                over TLS and HTTPS: sharedDial, a dial of its own whose connection many share
//! │  │  └─ DNS query                 its own messages on that connection; over HTTPS with an HTTP request (httpReq)
//! │  ├─ TCP attempt                  refused, timed out or lost the race: a record each
//! │  └─ TCP connection               the one that was established, until it is closed
//! │     ├─ TLS tunnel                to an HTTPS proxy
//! │     ├─ CONNECT, or SOCKS         HTTP request (triggeredBy), or part of the connection, where there is a proxy
//! │     └─ TLS tunnel                handshake, certificates; until it is closed
//! ├─ request sent                    connAcquiredAt … reqBodyEndAt
//! └─ response                        firstByteAt, respRecvAt … respBodyEndAt
//! ```
//!
//! Every record that begins ends exactly once, with an [`EndReason`](record::EndReason). A future may be dropped at any
//! await point, so dropping a recorder ends its record, too.
//!
//! # Diagnostics
//!
//! The crate's own diagnostics go through [`tracing`](https://docs.rs/tracing) with the target `nettrace`.
//!
// Modules of features that are off: their links lead to the documentation of all features.
#![cfg_attr(
    not(all(unix, feature = "capture")),
    doc = "[`capture`]: https://docs.rs/nettrace/latest/nettrace/capture/"
)]
#![cfg_attr(not(feature = "client"), doc = "[`client`]: https://docs.rs/nettrace/latest/nettrace/client/")]
#![cfg_attr(not(feature = "connect"), doc = "[`connect`]: https://docs.rs/nettrace/latest/nettrace/connect/")]
#![cfg_attr(
    not(feature = "debug-page"),
    doc = "[`debug_page`]: https://docs.rs/nettrace/latest/nettrace/debug_page/"
)]
#![cfg_attr(
    not(all(feature = "full", any(feature = "ring", feature = "aws-lc-rs"))),
    doc = "[`guides`]: https://docs.rs/nettrace/latest/nettrace/guides/"
)]
#![cfg_attr(
    not(all(
        any(feature = "conntrack", feature = "tcp-info", feature = "timestamping"),
        target_os = "linux"
    )),
    doc = "[`linux`]: https://docs.rs/nettrace/latest/nettrace/linux/"
)]
#![cfg_attr(not(feature = "proxy"), doc = "[`proxy`]: https://docs.rs/nettrace/latest/nettrace/proxy/")]
#![cfg_attr(not(feature = "relay"), doc = "[`relay`]: https://docs.rs/nettrace/latest/nettrace/relay/")]
#![cfg_attr(not(feature = "request"), doc = "[`request`]: https://docs.rs/nettrace/latest/nettrace/request/")]
#![cfg_attr(not(feature = "reqwest"), doc = "[`reqwest`]: https://docs.rs/nettrace/latest/nettrace/reqwest/")]
#![cfg_attr(not(feature = "resolve"), doc = "[`resolve`]: https://docs.rs/nettrace/latest/nettrace/resolve/")]
#![cfg_attr(not(feature = "server"), doc = "[`server`]: https://docs.rs/nettrace/latest/nettrace/server/")]
#![cfg_attr(not(feature = "tls"), doc = "[`tls`]: https://docs.rs/nettrace/latest/nettrace/tls/")]
#![cfg_attr(not(feature = "tonic"), doc = "[`tonic`]: https://docs.rs/nettrace/latest/nettrace/tonic/")]
#![cfg_attr(not(feature = "wire"), doc = "[`wire`]: https://docs.rs/nettrace/latest/nettrace/wire/")]
#![forbid(unsafe_code)]
#![deny(unreachable_pub, missing_docs, missing_debug_implementations)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "server", feature = "wire"))]
mod absolute_url;
#[cfg(all(unix, feature = "capture"))]
pub mod capture;
#[cfg(any(feature = "_record_conns", feature = "request"))]
mod connected;
#[cfg(any(feature = "connect", feature = "tls"))]
mod delegate_io;
#[cfg(feature = "explain")]
pub mod diff;
mod error;
#[cfg(feature = "explain")]
pub mod explain;
#[cfg(feature = "otlp-json")]
pub mod export;
#[cfg(any(feature = "resolve", all(feature = "tls", any(feature = "ring", feature = "aws-lc-rs"))))]
mod file;
#[cfg(feature = "debug-page")]
mod filter_values;
mod graph;
#[cfg(all(doc, feature = "full", any(feature = "ring", feature = "aws-lc-rs")))]
pub mod guides;
#[cfg(any(feature = "otlp-json", feature = "tls"))]
mod hex;
#[cfg(feature = "resolve")]
mod nameserver;
#[cfg(feature = "connect")]
mod net;
mod readable;
pub mod record;
mod scoped;
mod sink;
mod sync;
mod tracing_events;
mod url_authority;
#[cfg(any(feature = "request", feature = "resolve"))]
mod user_info;
pub mod view;

#[cfg(feature = "_bench")]
#[doc(hidden)]
pub mod bench_support;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "connect")]
pub mod connect;
#[cfg(feature = "debug-page")]
pub mod debug_page;
#[cfg(all(any(feature = "conntrack", feature = "tcp-info", feature = "timestamping"), target_os = "linux"))]
pub mod linux;
#[cfg(feature = "proxy")]
pub mod proxy;
#[cfg(feature = "relay")]
pub mod relay;
#[cfg(feature = "request")]
pub mod request;
#[cfg(feature = "reqwest")]
pub mod reqwest;
#[cfg(feature = "resolve")]
pub mod resolve;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "_store")]
pub mod store;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "tonic")]
pub mod tonic;
#[cfg(feature = "wire")]
pub mod wire;

#[cfg(feature = "client")]
pub use client::Client;
#[doc(inline)]
pub use record::{Failure, NetTrace, Timestamp, Timings, TraceId};
#[cfg(feature = "json")]
pub use sink::Dump;
#[cfg(loom)]
#[doc(hidden)]
pub use sink::loom_models;
pub use sink::{
    ConnRef, FinishedRecord, FinishedRequest, HeaderCapture, IdFormat, NotTraced, Probe, ProbeEvent,
    ProbeSocket, RecordKind, RequestHandle, ResponseExt, Retention, Slice, SliceFilter, SliceReceiver,
    Subscriber, TraceSink, TraceSinkBuilder,
};
pub use tracing_events::TracingEvents;
