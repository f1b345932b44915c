//! Names to addresses: a layer around any resolver, and a stub resolver of our own.
//!
//! What each can see:
//!
//! | | [`TraceResolveLayer`] | [`StubResolver`] |
//! |---|---|---|
//! | when resolving began and ended | yes | yes |
//! | nameservers that were asked, skipped, unreachable | | yes |
//! | sockets, their reads and writes | | yes |
//! | DNS messages | | yes |
//!
//! Both write to the dial in whose poll they are called, so a resolver is shared by all connections and each
//! dial has its own lookups in the trace.
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
