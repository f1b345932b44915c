//! Name resolution: a layer around any resolver, and a stub resolver of our own.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use nettrace::{TraceSink, resolve::StubResolver};
//!
//! let sink = TraceSink::new();
//! let resolver = StubResolver::system(&sink)?;
//! for address in resolver.lookup("example.com").await? {
//!     println!("{address}");
//! }
//! println!("{:#?}", sink.snapshot("lookup").dns_queries);
//! # Ok(())
//! # }
//! ```
//!
//! # Which one to take
//!
//! | what the trace shows | [`TraceResolveLayer`] | [`StubResolver`] |
//! |---|---|---|
//! | when resolving began and ended | yes | yes |
//! | nameservers that were asked, skipped or unreachable | | yes |
//! | the sockets, with their reads and writes | | yes |
//! | the DNS messages | | yes |
//!
//! The stub resolver asks nameservers in plain DNS, over TLS (RFC 7858) or over HTTPS (RFC 8484); see [`Nameserver`].
//!
//! Take the layer to keep the resolver that you have, and the stub resolver to see everything; it is the default of
//! [`TcpConnector`](crate::connect::TcpConnector). Both record into the dial that is being polled when they are called.
//! A resolver is therefore shared by all connections, and each dial has its own lookups in the trace.

mod future;
mod layer;
mod resolve_span;
mod service;
mod stub;

#[cfg(feature = "_bench")]
pub(crate) use self::stub::bench;
pub use self::{
    future::TraceResolveFuture,
    layer::TraceResolveLayer,
    service::TraceResolve,
    stub::{
        Addresses, IpStrategy, LookupFuture, ResolveError, ResolverConfigError, StubResolver,
        StubResolverBuilder,
    },
};
pub use crate::nameserver::{InvalidNameserver, Nameserver};
