//! Shows what really happened behind a network request.
//!
//! Every dial, DNS message, TCP attempt, TLS handshake, socket operation and HTTP request becomes a record, linked to
//! the records that it came from; a [`NetTrace`] is a consistent picture of them at one moment, and comes out as JSON.
//! The instrumentation consists of tower layers and services that share one [`TraceSink`], so that a client takes on
//! the layers it wants; `Client` is one ready composition of them.
//!
//! ```no_run
//! # #[cfg(feature = "client")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use nettrace::{Client, ResponseExt, TraceSink};
//!
//! let sink = TraceSink::new();
//! let client = Client::builder(&sink).build()?;
//! match client.get("https://example.com/").await {
//!     Ok(response) => println!("{}", response.timings()?),
//!     // The trace of the request that failed says why.
//!     Err(error) => eprintln!("{error}\n{}", nettrace::view::waterfall(&error.request().trace())),
//! }
//! # Ok(()) }
//! ```
//!
//! # How records nest
//!
//! Each begins within the one that it is drawn under, and ends no later than where an arrow leads back.
//!
//! ```text
//! HTTP request                       one for each hop of a redirect (prevHop)
//! ├─ dial                            triggeredBy the request; a pooled connection needs none
//! │  ├─ resolver dial ─ UDP or TCP connection to a nameserver
//! │  │  └─ DNS query                 all messages of that connection
//! │  ├─ TCP attempt                  refused, timed out or lost the race: a record each
//! │  └─ TCP connection               the one that was established, until it is closed
//! │     ├─ TLS tunnel                to an HTTPS proxy
//! │     ├─ CONNECT, or SOCKS         HTTP request (triggeredBy), or part of the connection, where there is a proxy
//! │     └─ TLS tunnel                handshake, certificates; until it is closed
//! ├─ request sent                    connAcquiredAt … reqBodyEndAt
//! └─ response                        firstByteAt, respRecvAt … respBodyEndAt
//! ```
//!
//! Everything that begins ends exactly once, with an [`EndReason`](record::EndReason): futures may be dropped at any
//! await point, so a recorder that is dropped is an end, too.
//!
//! # The parts
//!
//! | module | feature | what |
//! |---|---|---|
//! | [`record`] | – | what a trace is: plain data and its JSON |
//! | [`view`] | – | what a person reads: the waterfall |
//! | [`TraceSink`] | – | where instrumentation writes; snapshots, bounds, subscribers, probes |
//! | `connect` | `connect` | `TraceConnectLayer` around any hyper connector, `TracedIo` |
//! | `resolve` | `resolve` | `TraceResolveLayer`, `StubResolver`; with it `connect::TcpConnector` |
//! | `proxy` | `proxy` | `ProxyLayer` over any connector: HTTP, HTTPS and SOCKS5 proxies |
//! | `tls` | `tls` with `ring` or `aws-lc-rs` | `TraceTlsLayer` over any connector |
//! | `request` | `request` | `TraceRequestLayer` around any `Service<http::Request<B>>` |
//! | `server` | `server` | the accepting side: `TraceListener`, `TraceTlsAcceptor`, `TraceServerLayer` |
//! | `capture` | `capture` | a probe: the packets of traced connections, as pcap and pcapng |
//! | `client` | `client` (default) | the preset |
//! | `tonic` | `tonic` | gRPC: a channel for generated clients of tonic |
//! | `reqwest` | `reqwest` | a reqwest client observed, and its requests in full depth |
//! | `linux` | `conntrack`, `tcp-info`, on Linux | probes: the kernel's connection tracking, and what it knows of a TCP connection |
//!
//! Diagnostics of the crate's own go through [`tracing`](https://docs.rs/tracing), target `nettrace`; finished records do
//! with [`TracingEvents`].
#![forbid(unsafe_code)]
#![deny(unreachable_pub, missing_docs, missing_debug_implementations)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// The sink serves all layers: without some of them parts of it have no caller.
#![cfg_attr(not(feature = "client"), allow(dead_code, unused_imports))]

/// What the README shows compiles.
#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(all(unix, feature = "capture"))]
pub mod capture;
mod error;
#[cfg(any(feature = "resolve", feature = "tls"))]
mod file;
#[cfg(feature = "resolve")]
mod net;
pub mod record;
mod scoped;
mod sink;
mod sync;
mod tracing_events;
mod user_info;
pub mod view;

#[cfg(feature = "_bench")]
#[doc(hidden)]
pub mod bench_support;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "connect")]
pub mod connect;
#[cfg(all(any(feature = "conntrack", feature = "tcp-info"), target_os = "linux"))]
pub mod linux;
#[cfg(feature = "proxy")]
pub mod proxy;
#[cfg(feature = "request")]
pub mod request;
#[cfg(feature = "reqwest")]
pub mod reqwest;
#[cfg(feature = "resolve")]
pub mod resolve;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "tonic")]
pub mod tonic;

#[cfg(feature = "client")]
pub use client::Client;
#[doc(inline)]
pub use record::{Failure, NetTrace, Timestamp, Timings, TraceId};
#[cfg(loom)]
#[doc(hidden)]
pub use sink::loom_models;
pub use sink::{
    ConnRef, FinishedRecord, HeaderCapture, IdFormat, NotTraced, Probe, ProbeEvent, ProbeSocket,
    RequestHandle, ResponseExt, Retention, Subscriber, TraceSink, TraceSinkBuilder,
};
pub use tracing_events::TracingEvents;
