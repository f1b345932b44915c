//! The builder of a stub resolver: what resolv.conf says, overridden by what the program sets.

#[cfg(feature = "encrypted-dns")]
use std::sync::Arc;
use std::{error::Error, fmt, io, net::IpAddr, path::PathBuf, time::Duration};

#[cfg(feature = "encrypted-dns")]
use futures_util::future::BoxFuture;
#[cfg(feature = "encrypted-dns")]
use rustls::ClientConfig;

#[cfg(feature = "encrypted-dns")]
use super::encrypted::EncryptedDns;
use super::{
    StubResolver, StubResolverInner,
    config::{Config, Overrides, absolute},
    hosts::Hosts,
    options::{IpStrategy, Options, SkipNameserver},
    reloadable::Reloadable,
};
#[cfg(feature = "encrypted-dns")]
use crate::tls::TraceTlsLayer;
use crate::{nameserver::Nameserver, sink::TraceSink};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";
/// The minimum UDP payload size that can be offered, in bytes (RFC 6891 section 6.2.3).
const MIN_UDP_PAYLOAD_SIZE: u16 = 512;

/// A builder that configures a [`StubResolver`]; returned by [`StubResolver::builder`].
///
/// Settings that are not made come from `/etc/resolv.conf`.
///
/// # Examples
///
/// ```
/// use nettrace::{TraceSink, connect::TcpConnector, resolve::{Nameserver, StubResolver}};
/// use std::time::Duration;
///
/// let sink = TraceSink::new();
/// let resolver = StubResolver::builder(&sink)
///     .nameservers(["192.0.2.53".parse::<Nameserver>()?, "[2001:db8::53]:53".parse()?])
///     .timeout(Duration::from_secs(2))
///     .skip_nameserver(|ip, _port| ip.is_ipv6().then(|| "IPv6 is not routed here".to_owned()))
///     .build()?;
/// let connector = TcpConnector::new(&sink).resolver(resolver);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct StubResolverBuilder {
    sink: TraceSink,
    overrides: Overrides,
    resolv_conf: Option<PathBuf>,
    hosts_file: Option<PathBuf>,
    options: Options,
    #[cfg(feature = "encrypted-dns")]
    tls: Option<TraceTlsLayer>,
}

impl StubResolverBuilder {
    pub(super) fn new(sink: &TraceSink) -> Self {
        Self {
            sink: sink.clone(),
            overrides: Overrides::default(),
            resolv_conf: Some(RESOLV_CONF.into()),
            hosts_file: Some(HOSTS.into()),
            options: Options::default(),
            #[cfg(feature = "encrypted-dns")]
            tls: None,
        }
    }

    /// Asks these nameservers instead of the system's, in this order: addresses, or [`Nameserver`]s. Unlike in
    /// resolv.conf there is no maximum of three.
    #[must_use]
    pub fn nameservers(mut self, nameservers: impl IntoIterator<Item = impl Into<Nameserver>>) -> Self {
        self.overrides.nameservers = Some(nameservers.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the TLS configuration for nameservers that are asked over TLS or HTTPS. ALPN is set for each.
    ///
    /// By default certificates are verified as the machine is set up; see [`TraceTlsLayer`]. The trace shows the
    /// certificates of failed handshakes only if the configuration's verifier is a
    /// [`TraceVerifier`](crate::tls::TraceVerifier), as in what
    /// [`into_config`](crate::tls::TraceTlsLayerBuilder::into_config) returns.
    #[cfg(feature = "encrypted-dns")]
    #[must_use]
    pub fn tls_config(self, config: Arc<ClientConfig>) -> Self {
        let layer = TraceTlsLayer::builder(&self.sink).config(config).build();
        self.tls_layer(layer)
    }

    /// Sets the layer for connections to nameservers that are asked over TLS or HTTPS. ALPN is set for each.
    #[cfg(feature = "encrypted-dns")]
    pub(crate) fn tls_layer(mut self, layer: TraceTlsLayer) -> Self {
        self.tls = Some(layer);
        self
    }

    /// Sets the search list: the domains that are appended to a name, instead of the system's. Empty for none.
    #[must_use]
    pub fn search(mut self, domains: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.overrides.search = Some(domains.into_iter().map(Into::into).collect());
        self
    }

    /// Sets how many dots a name must have to be tried as given before the search list is used (system's default: 1).
    #[must_use]
    pub fn ndots(mut self, dots: usize) -> Self {
        self.overrides.ndots = Some(dots);
        self
    }

    /// Sets how often all nameservers are asked in turn, from 1 to 100 times (system's default: 2).
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.overrides.attempts = Some(attempts);
        self
    }

    /// Sets how long to wait for one nameserver, at most a day (system's default: 5 s). A query that is repeated over
    /// TCP has this time again. Over TLS and HTTPS it covers the lookup of the nameserver's name, the dial, the
    /// handshake and the query; a query that is repeated on a new connection has it again.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.overrides.timeout = Some(timeout);
        self
    }

    /// Sets whether each lookup begins with the next nameserver (option `rotate`).
    #[must_use]
    pub fn rotate(mut self, rotate: bool) -> Self {
        self.overrides.rotate = Some(rotate);
        self
    }

    /// Sets whether nameservers are asked only over TCP (option `use-vc`). It has no effect on those that are asked
    /// over TLS or HTTPS.
    #[must_use]
    pub fn use_vc(mut self, use_vc: bool) -> Self {
        self.overrides.use_vc = Some(use_vc);
        self
    }

    /// Sets whether IPv4 and IPv6 addresses are asked for one after the other (option `single-request`). By default
    /// they are asked for in parallel.
    #[must_use]
    pub fn single_request(mut self, single_request: bool) -> Self {
        self.overrides.single_request = Some(single_request);
        self
    }

    /// Sets the UDP payload size that is offered to nameservers (EDNS, RFC 6891), in bytes: 1232 by default, at least
    /// 512. `None` sends queries without EDNS, and over TLS and HTTPS without padding.
    #[must_use]
    pub fn edns_payload(mut self, bytes: impl Into<Option<u16>>) -> Self {
        self.options.udp_payload_size = bytes.into().map(|bytes| bytes.max(MIN_UDP_PAYLOAD_SIZE));
        self
    }

    /// Sets the local address that nameservers are asked from. It is not used for nameservers of the other family, nor
    /// for those on the loopback interface.
    #[must_use]
    pub fn source_ip(mut self, address: impl Into<Option<IpAddr>>) -> Self {
        self.options.source_ip = address.into();
        self
    }

    /// Sets a callback that is asked about each nameserver before it is used. If it returns a reason, or panics, the
    /// nameserver is skipped and the dial's record shows why. For a nameserver that is configured by name it is called
    /// with each of its addresses, when they are known.
    #[must_use]
    pub fn skip_nameserver(
        mut self,
        skip: impl Fn(IpAddr, u16) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.options.skip = Some(SkipNameserver::new(skip));
        self
    }

    /// Sets whether HTTPS records (RFC 9460) are asked for with the addresses of each name; off by default.
    ///
    /// The reply is only recorded. The lookup does not wait for it: if it has not come when the addresses are known,
    /// the query is given up. A name whose addresses are known without a query is not asked about.
    #[must_use]
    pub fn https_records(mut self, https_records: bool) -> Self {
        self.options.https_records = https_records;
        self
    }

    /// Sets which addresses are asked for.
    #[must_use]
    pub fn ip_strategy(mut self, strategy: IpStrategy) -> Self {
        self.options.strategy = strategy;
        self
    }

    /// Sets the hosts file, `/etc/hosts` by default; `None` for none.
    #[must_use]
    pub fn hosts_file(mut self, path: Option<PathBuf>) -> Self {
        self.hosts_file = path;
        self
    }

    /// Sets the file with the system's settings, `/etc/resolv.conf` by default; `None` for the built-in defaults.
    #[must_use]
    pub fn resolv_conf(mut self, path: Option<PathBuf>) -> Self {
        self.resolv_conf = path;
        self
    }

    /// Reads the files and builds the resolver.
    ///
    /// # Errors
    ///
    /// When a search domain is not a domain name, or a file exists but cannot be read. A missing file is not an error:
    /// without a resolv.conf, nameservers on this host are asked.
    pub fn build(mut self) -> Result<StubResolver, ResolverConfigError> {
        if let Some(search) = &mut self.overrides.search {
            for domain in search {
                *domain = absolute(domain).ok_or_else(|| ResolverConfigError {
                    what: format!("search domain {domain:?} is not a domain name"),
                    source: None,
                })?;
            }
        }
        #[cfg_attr(not(feature = "encrypted-dns"), expect(unused_mut, reason = "nothing is added to it"))]
        let mut inner = self.resolver(self.overrides.clone())?;
        #[cfg(feature = "encrypted-dns")]
        if self.overrides.nameservers.iter().flatten().any(Nameserver::is_encrypted) {
            inner.encrypted = Some(Arc::new(self.encrypted()?));
        }
        Ok(StubResolver::new(inner))
    }

    /// Reads the files, for a resolver that asks nameservers in plain DNS.
    fn resolver(&self, overrides: Overrides) -> Result<StubResolverInner, ResolverConfigError> {
        let parse = move |content: Option<&[u8]>| Config::parse(content).with_overrides(&overrides);
        let config = match self.resolv_conf.clone() {
            Some(path) => open(path, parse)?,
            None => Reloadable::fixed(parse(None)),
        };
        let hosts = match self.hosts_file.clone() {
            Some(path) => open(path, Hosts::parse)?,
            None => Reloadable::fixed(Hosts::default()),
        };
        Ok(StubResolverInner::new(self.sink.clone(), config, hosts, self.options.clone()))
    }

    /// Returns the state for nameservers that are asked over TLS or HTTPS. Their names are looked up with the other
    /// nameservers that are configured, or with the system's if there are no others.
    #[cfg(feature = "encrypted-dns")]
    fn encrypted(&self) -> Result<EncryptedDns, ResolverConfigError> {
        let plain = self.overrides.nameservers.iter().flatten().filter(|server| !server.is_encrypted());
        let plain: Vec<_> = plain.cloned().collect();
        let mut bootstrap = self.resolver(Overrides {
            nameservers: (!plain.is_empty()).then_some(plain),
            search: Some(Vec::new()),
            ..self.overrides.clone()
        })?;
        bootstrap.options.https_records = false;
        let bootstrap = Arc::new(bootstrap);
        let look_up = move |name: String, dial| -> BoxFuture<'static, _> {
            let bootstrap = bootstrap.clone();
            Box::pin(async move { bootstrap.lookup(&name, dial).await })
        };
        let default = || TraceTlsLayer::builder(&self.sink).build();
        let tls = self.tls.clone().unwrap_or_else(default);
        let Options { skip, source_ip, .. } = &self.options;
        Ok(EncryptedDns::new(&self.sink, &tls, Arc::new(look_up), skip.clone(), *source_ip))
    }
}

/// Builds a resolver with the system's settings. A file that cannot be read counts as missing, for callers that cannot
/// report an error.
pub(super) fn system_or_default(sink: &TraceSink) -> StubResolver {
    let config = Reloadable::open_or_missing(RESOLV_CONF.into(), Config::parse);
    let hosts = Reloadable::open_or_missing(HOSTS.into(), Hosts::parse);
    StubResolver::new(StubResolverInner::new(sink.clone(), config, hosts, Options::default()))
}

fn open<T>(
    path: PathBuf,
    parse: impl Fn(Option<&[u8]>) -> T + Send + Sync + 'static,
) -> Result<Reloadable<T>, ResolverConfigError> {
    Reloadable::open(path.clone(), parse).map_err(|error| ResolverConfigError {
        what: format!("cannot read {}", path.display()),
        source: Some(error),
    })
}

/// Why a [`StubResolver`] could not be built.
#[derive(Debug)]
pub struct ResolverConfigError {
    what: String,
    source: Option<io::Error>,
}

impl fmt::Display for ResolverConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl Error for ResolverConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
