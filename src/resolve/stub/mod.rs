//! The stub resolver: the public type, and what is answered without a query.
//!
//! A lookup passes through `lookup` (candidate names, both families), `policy` (which nameserver next, and what a reply
//! means: no I/O) and `exchange` (one query over one socket, or over a connection of `encrypted` that lookups share).
//! `message`, `rr` and `wire` decode replies; `config`, `hosts` and `reloadable` are the system's files.

#[cfg(feature = "_bench")]
pub(crate) mod bench;
mod builder;
mod config;
#[cfg(feature = "encrypted-dns")]
mod encrypted;
mod exchange;
mod host_name;
mod hosts;
mod lookup;
mod message;
mod options;
mod policy;
mod reloadable;
mod rfc6724;
mod rr;
mod to_record;
mod wire;

use std::{
    fmt,
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    vec,
};

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

#[cfg(feature = "encrypted-dns")]
use self::encrypted::EncryptedDns;
pub use self::{
    builder::{ResolverConfigError, StubResolverBuilder},
    options::IpStrategy,
};
use self::{
    config::Config, exchange::Exchange, hosts::Hosts, lookup::Lookup, options::Options,
    reloadable::Reloadable,
};
use super::resolve_span::ResolveSpan;
pub use crate::error::ResolveError;
use crate::{
    error::{LookupError, NoRuntime, ResolveErrorKind as Kind},
    sink::{DialRef, TraceSink},
};

/// A stub resolver that records every message it exchanges.
///
/// It looks names up as the C library and Go do: literal addresses, the hosts file, then the nameservers of resolv.conf
/// with its search list and options. IPv4 and IPv6 addresses are asked for in parallel, over UDP, and over TCP if a
/// reply was truncated.
///
/// - In plain DNS each query has its own socket, port and ID.
/// - Over TLS and HTTPS all queries to a nameserver share one connection, which is closed when it was idle for 10
///   seconds. A query on a connection that the nameserver has closed meanwhile is sent once more, on a new one. If a
///   query has been out for 2 seconds and nothing has come since, the next one gets a new connection. A nameserver that
///   is asked over TLS or HTTPS is never asked in plain text instead.
/// - NXDOMAIN and an empty answer are final for a name. SERVFAIL, REFUSED, other response codes, a lame referral, a
///   timeout and a socket error lead to the next nameserver.
/// - A reply to another query, or one that cannot be decoded, is recorded and ignored.
/// - If the query for one address family fails, the addresses of the other are enough.
/// - Names below `localhost` are the loopback addresses (RFC 6761 section 6.3). Names below `onion` are refused (RFC
///   7686 section 2).
/// - Lists with IPv6 addresses are sorted as in RFC 6724 section 6.
/// - Both files are read again when they change; they are checked at most once in five seconds.
///
/// Nothing is cached, and a lookup that is dropped leaves nothing behind. Connections over TLS and HTTPS run in tasks
/// on the runtime of the lookup that needed them first. They end when they are idle, or when the resolver and its
/// clones are dropped. A lookup belongs to the dial that is being polled when it begins; outside a dial it has a record
/// of its own.
#[derive(Clone, Debug)]
pub struct StubResolver {
    inner: Arc<StubResolverInner>,
}

impl StubResolver {
    /// Creates a resolver with the system's settings.
    ///
    /// # Errors
    ///
    /// When `/etc/resolv.conf` or `/etc/hosts` exists but cannot be read.
    pub fn system(sink: &TraceSink) -> Result<Self, ResolverConfigError> {
        Self::builder(sink).build()
    }

    /// Creates a resolver with the system's settings. A file that cannot be read counts as missing.
    pub(crate) fn system_or_default(sink: &TraceSink) -> Self {
        builder::system_or_default(sink)
    }

    /// Returns a builder that configures nameservers, timeouts and other settings.
    pub fn builder(sink: &TraceSink) -> StubResolverBuilder {
        StubResolverBuilder::new(sink)
    }

    fn new(inner: StubResolverInner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Returns the addresses of `host`, at least one, the best to try first.
    ///
    /// A literal address is returned as it is, whatever the [`IpStrategy`].
    ///
    /// # Errors
    ///
    /// When the name is invalid, does not exist or has no address, or when no nameserver could answer.
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        self.inner.lookup(host, self.inner.sink.lookup()).await
    }

    /// Closes the connections to nameservers that are asked over TLS or HTTPS. The next lookup connects again.
    ///
    /// Returns when their close is recorded. Those that carry a query are closed after it, for which this does not
    /// wait.
    #[cfg(feature = "encrypted-dns")]
    pub async fn close_connections(&self) {
        if let Some(encrypted) = &self.inner.encrypted {
            encrypted.close().await;
        }
    }
}

impl Service<Name> for StubResolver {
    type Response = Addresses;
    type Error = ResolveError;
    type Future = LookupFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        // Looked up now: the lookup belongs to the dial that calls, whichever task polls the future.
        let (inner, dial) = (self.inner.clone(), self.inner.sink.lookup());
        LookupFuture(Box::pin(async move {
            let addresses = inner.lookup(name.as_str(), dial).await?;
            Ok(Addresses(addresses.into_iter()))
        }))
    }
}

/// The future of [`StubResolver`] as a `Service`. If it is dropped before it resolves, the lookup ends then.
#[must_use = "futures do nothing unless polled"]
pub struct LookupFuture(Pin<Box<dyn Future<Output = Result<Addresses, ResolveError>> + Send>>);

impl Future for LookupFuture {
    type Output = Result<Addresses, ResolveError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for LookupFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookupFuture").finish_non_exhaustive()
    }
}

/// An iterator over the addresses of a host, the best to try first, each with port 0.
#[derive(Clone, Debug)]
pub struct Addresses(vec::IntoIter<IpAddr>);

impl Iterator for Addresses {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|address| SocketAddr::new(address, 0))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Addresses {}

/// The state that all clones of a resolver share.
#[derive(Debug)]
struct StubResolverInner {
    sink: TraceSink,
    config: Reloadable<Config>,
    hosts: Reloadable<Hosts>,
    options: Options,
    /// The connections to nameservers that are asked over TLS or HTTPS; `None` if none is configured.
    #[cfg(feature = "encrypted-dns")]
    encrypted: Option<Arc<EncryptedDns>>,
    /// The number of lookups begun, for the option `rotate`.
    lookups_begun: AtomicUsize,
}

impl StubResolverInner {
    fn new(sink: TraceSink, config: Reloadable<Config>, hosts: Reloadable<Hosts>, options: Options) -> Self {
        Self {
            sink,
            config,
            hosts,
            options,
            #[cfg(feature = "encrypted-dns")]
            encrypted: None,
            lookups_begun: AtomicUsize::new(0),
        }
    }

    async fn lookup(&self, host: &str, dial: DialRef) -> Result<Vec<IpAddr>, ResolveError> {
        if let Some(address) = host_name::parse_literal(host) {
            return Ok(vec![address]);
        }
        let resolving = ResolveSpan::begin(dial);
        let mut addresses = match self.local_addresses(host) {
            Some(addresses) => addresses,
            None => self
                .query_nameservers(host, resolving.dial())
                .await
                .map_err(|error| ResolveError::new(host, error))?,
        };
        rfc6724::sort(&mut addresses);
        Ok(addresses)
    }

    /// Returns the addresses that are known without a query: those in the hosts file, and those of `localhost`.
    fn local_addresses(&self, host: &str) -> Option<Vec<IpAddr>> {
        let wanted = |address: &IpAddr| self.options.strategy.wants(address);
        let in_file: Vec<_> = self.hosts.get().addresses(host).iter().copied().filter(wanted).collect();
        if !in_file.is_empty() {
            return Some(in_file);
        }
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        host_name::is_localhost(host).then(|| loopback.into_iter().filter(wanted).collect())
    }

    async fn query_nameservers(&self, host: &str, dial: &DialRef) -> Result<Vec<IpAddr>, LookupError> {
        host_name::validate(host)
            .map_err(|why| LookupError { kind: Kind::InvalidName(why), nameserver: None })?;
        NoRuntime::check().map_err(|error| LookupError { kind: Kind::NoRuntime(error), nameserver: None })?;
        let config = self.config.get();
        let first_server = if config.rotate { self.lookups_begun.fetch_add(1, Relaxed) } else { 0 };
        let exchange = Exchange {
            dial: dial.clone(),
            timeout: config.timeout,
            source_ip: self.options.source_ip,
            udp_payload_size: self.options.udp_payload_size,
            trust_ad: config.trust_ad,
            #[cfg(feature = "encrypted-dns")]
            encrypted: self.encrypted.clone(),
        };
        Lookup::new(&config, &self.options, first_server, exchange).host(host).await
    }
}
