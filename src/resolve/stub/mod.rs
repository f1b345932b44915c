//! The stub resolver.

#[cfg(feature = "_bench")]
pub(crate) mod bench;
mod builder;
mod config;
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
    error::{LookupError as Fault, NoRuntime, ResolveErrorKind as Kind},
    sink::{DialRef, TraceSink},
};

/// A stub resolver that records every message it exchanges.
///
/// It looks names up as the C library and Go do: literal addresses, the hosts file, then the nameservers of
/// resolv.conf with its search list and options. For each name in turn, each attempt and each nameserver,
/// IPv4 and IPv6 addresses are asked for in parallel, over UDP and, when a reply was cut off, over TCP.
///
/// - Each query has a socket, a port and an ID of its own.
/// - NXDOMAIN and an empty answer are final for a name; SERVFAIL, REFUSED, other codes, a lame referral,
///   a timeout and a socket's error lead to the next nameserver.
/// - A reply to another query, or one that cannot be read, is recorded and ignored.
/// - What one family has is enough when the other fails.
/// - Names below `localhost` are the loopback addresses (RFC 6761 section 6.3); names below `onion` are refused
///   (RFC 7686 section 2).
/// - Where IPv6 addresses are among them, addresses are sorted as RFC 6724 section 6 says.
/// - Both files are read again when they change, looked at once in five seconds at most.
///
/// Nothing is cached, no task is spawned, and a lookup that is dropped leaves nothing behind.
///
/// Lookups in the poll of a dial belong to that dial in the trace; others stand for themselves.
#[derive(Clone, Debug)]
pub struct StubResolver {
    inner: Arc<StubResolverInner>,
}

impl StubResolver {
    /// A resolver with the settings of this machine.
    ///
    /// # Errors
    ///
    /// When `/etc/resolv.conf` or `/etc/hosts` is there but cannot be read.
    pub fn system(sink: &TraceSink) -> Result<Self, ResolverConfigError> {
        Self::builder(sink).build()
    }

    /// As [`system`](Self::system), but a file that cannot be read counts as missing.
    pub(crate) fn system_or_default(sink: &TraceSink) -> Self {
        builder::system_or_default(sink)
    }

    /// To choose nameservers, timeouts and the like.
    pub fn builder(sink: &TraceSink) -> StubResolverBuilder {
        StubResolverBuilder::new(sink)
    }

    fn new(inner: StubResolverInner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// The addresses of `host`, the best to try first; at least one.
    ///
    /// A literal address is returned as it is, whatever the [`IpStrategy`].
    ///
    /// # Errors
    ///
    /// When there is no such name, it has no address, is no valid name, or no nameserver could tell.
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        self.inner.lookup(host, self.inner.sink.lookup()).await
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
        // Whoever polls the future: it belongs to the dial that called.
        let (inner, dial) = (self.inner.clone(), self.inner.sink.lookup());
        LookupFuture(Box::pin(async move {
            let addresses = inner.lookup(name.as_str(), dial).await?;
            Ok(Addresses(addresses.into_iter()))
        }))
    }
}

/// Future of [`StubResolver`]'s `Service`. Dropped before it is ready, the lookup ends then.
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

/// The addresses of a host, the best to try first, each with port 0.
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

/// What all clones of a resolver have in common.
#[derive(Debug)]
struct StubResolverInner {
    sink: TraceSink,
    config: Reloadable<Config>,
    hosts: Reloadable<Hosts>,
    options: Options,
    /// Lookups begun, for the option rotate.
    lookups_begun: AtomicUsize,
}

impl StubResolverInner {
    fn new(sink: TraceSink, config: Reloadable<Config>, hosts: Reloadable<Hosts>, options: Options) -> Self {
        Self { sink, config, hosts, options, lookups_begun: AtomicUsize::new(0) }
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
                .map_err(|fault| ResolveError::new(host, fault))?,
        };
        rfc6724::sort(&mut addresses);
        Ok(addresses)
    }

    /// What need not be asked for.
    fn local_addresses(&self, host: &str) -> Option<Vec<IpAddr>> {
        let wanted = |address: &IpAddr| self.options.strategy.wants(address);
        let in_file: Vec<_> = self.hosts.get().addresses(host).iter().copied().filter(wanted).collect();
        if !in_file.is_empty() {
            return Some(in_file);
        }
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        host_name::is_localhost(host).then(|| loopback.into_iter().filter(wanted).collect())
    }

    async fn query_nameservers(&self, host: &str, dial: &DialRef) -> Result<Vec<IpAddr>, Fault> {
        host_name::validate(host).map_err(|why| Fault { kind: Kind::InvalidName(why), nameserver: None })?;
        NoRuntime::check().map_err(|error| Fault { kind: Kind::NoRuntime(error), nameserver: None })?;
        let config = self.config.get();
        let first_server = if config.rotate { self.lookups_begun.fetch_add(1, Relaxed) } else { 0 };
        let exchange = Exchange {
            dial: dial.clone(),
            timeout: config.timeout,
            source_ip: self.options.source_ip,
            udp_payload_size: self.options.udp_payload_size,
            trust_ad: config.trust_ad,
        };
        let Options { strategy, skip, .. } = &self.options;
        Lookup::new(&config, *strategy, skip.as_ref(), first_server, exchange).host(host).await
    }
}
