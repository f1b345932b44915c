//! The builder of the preset, which puts its layers together.

use super::{
    Client, ClientStack, Stack,
    body::Body,
    pool::{Connector, Limits, Pool, PoolConfig, Timeouts},
    response_body::ResponseBody,
    traced_transport::TracedTransport,
};
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
use crate::tls::{ClientCertificate, Roots};
use crate::{
    connect::{KeepAlive, TcpConnector},
    error::BoxError,
    proxy::{ProxyLayer, ProxySelector},
    request::TraceRequestLayer,
    resolve::{IpStrategy, Nameserver, ResolverConfigError, StubResolver},
    sink::TraceSink,
    tls::{KeyLog, TraceTlsLayer},
};
use http::{HeaderValue, Request, Response};
use rustls::ClientConfig;
use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tower::util::{BoxCloneSyncService, MapErr};
use tower_layer::Layer;
use tower_service::Service;

/// The service that layers given to [`ClientBuilder::layer`] go around: all of the client below redirects.
pub type ClientService = BoxCloneSyncService<Request<Body>, Response<ResponseBody>, BoxError>;

/// The version of HTTP that a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpVersion {
    /// HTTP/2 if the server agrees to it in the TLS handshake, otherwise HTTP/1.1.
    #[default]
    Auto,
    /// Offers both versions in the TLS handshake, HTTP/1.1 first. A server may have a preference of its own.
    PreferHttp1,
    /// HTTP/1.1 only.
    Http1Only,
    /// HTTP/2 with prior knowledge (RFC 9113 section 3.3), also without TLS.
    Http2Only,
}

impl HttpVersion {
    /// Returns the protocols to offer, in order of preference (RFC 7301).
    fn alpn(self) -> &'static [&'static str] {
        match self {
            HttpVersion::Auto => &["h2", "http/1.1"],
            HttpVersion::PreferHttp1 => &["http/1.1", "h2"],
            HttpVersion::Http1Only => &["http/1.1"],
            HttpVersion::Http2Only => &["h2"],
        }
    }
}

/// A builder that configures a [`Client`].
///
/// By default idle connections are limited as Go's `Transport` limits them: 100 to all hosts together, each for 90
/// seconds. There is no other limit and no timeout unless it is set here.
///
/// ```no_run
/// use nettrace::{Client, TraceSink};
/// use std::time::Duration;
///
/// # fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::builder(&TraceSink::new())
///     .timeout(Duration::from_secs(30))
///     .tcp_handshake_timeout(Duration::from_secs(5))
///     .max_conns_per_host(8)
///     .build()?;
/// # Ok(()) }
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct ClientBuilder {
    sink: TraceSink,
    version: HttpVersion,
    source_ip: Option<IpAddr>,
    ip_strategy: IpStrategy,
    nameservers: Option<Vec<Nameserver>>,
    skip_nameserver: Option<Arc<SkipNameserver>>,
    resolver: Option<StubResolver>,
    proxies: Option<ProxySelector>,
    tls: Tls,
    timeout: Option<Duration>,
    proxy_timeout: Option<Duration>,
    tcp_timeout: Option<Duration>,
    tls_timeout: Option<Duration>,
    tcp_keep_alive: KeepAlive,
    keep_alive: bool,
    compression: bool,
    limits: Limits,
    timeouts: Timeouts,
    user_agent: Option<HeaderValue>,
    redirects: usize,
    layers: Vec<Box<dyn FnOnce(ClientService) -> ClientService + Send>>,
}

/// The limits of Go's `http.DefaultTransport`.
const DEFAULT_MAX_IDLE_CONNS: usize = 100;
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(90);

type SkipNameserver = dyn Fn(IpAddr, u16) -> Option<String> + Send + Sync;

#[derive(Default)]
struct Tls {
    config: Option<Arc<ClientConfig>>,
    key_log: Option<KeyLog>,
    #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
    roots: Option<Roots>,
    #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
    client_certificate: Option<ClientCertificate>,
    #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
    accept_invalid: bool,
}

impl ClientBuilder {
    pub(super) fn new(sink: &TraceSink) -> Self {
        ClientBuilder {
            sink: sink.clone(),
            version: HttpVersion::default(),
            source_ip: None,
            ip_strategy: IpStrategy::default(),
            nameservers: None,
            skip_nameserver: None,
            resolver: None,
            proxies: None,
            tls: Tls::default(),
            timeout: None,
            proxy_timeout: None,
            tcp_timeout: None,
            tls_timeout: None,
            tcp_keep_alive: KeepAlive::default(),
            keep_alive: true,
            compression: true,
            limits: Limits {
                max_idle: Some(DEFAULT_MAX_IDLE_CONNS),
                idle_timeout: Some(DEFAULT_IDLE_TIMEOUT),
                ..Limits::default()
            },
            timeouts: Timeouts::default(),
            user_agent: Some(HeaderValue::from_static(concat!("nettrace/", env!("CARGO_PKG_VERSION")))),
            redirects: 9,
            layers: Vec::new(),
        }
    }

    /// Sets the version of HTTP; [`HttpVersion::Auto`] by default.
    pub fn http_version(mut self, version: HttpVersion) -> Self {
        self.version = version;
        self
    }

    /// Sets the local address of connections, and of queries to nameservers that are not on loopback.
    pub fn source_ip(mut self, ip: impl Into<Option<IpAddr>>) -> Self {
        self.source_ip = ip.into();
        self
    }

    /// Sets which addresses of names are looked up and connected to; both families by default. It also applies to names
    /// of proxies, and of nameservers that are asked over TLS or HTTPS. An address in a URL is used as it is.
    pub fn ip_strategy(mut self, strategy: IpStrategy) -> Self {
        self.ip_strategy = strategy;
        self
    }

    /// Sets the nameservers to ask instead of the system's, in this order: addresses, or [`Nameserver`]s.
    ///
    /// [`roots`](Self::roots) and [`tls_key_log`](Self::tls_key_log) also apply to nameservers that are asked over TLS or
    /// HTTPS; other settings for TLS do not. A [`resolver`](Self::resolver) can have others.
    pub fn nameservers(mut self, nameservers: impl IntoIterator<Item = impl Into<Nameserver>>) -> Self {
        self.nameservers = Some(nameservers.into_iter().map(Into::into).collect());
        self
    }

    /// Sets a function that is called with each nameserver right before that is asked. `Some(reason)` skips it.
    pub fn skip_nameserver(
        mut self,
        skip: impl Fn(IpAddr, u16) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.skip_nameserver = Some(Arc::new(skip));
        self
    }

    /// Sets the resolver. [`source_ip`](Self::source_ip), [`ip_strategy`](Self::ip_strategy),
    /// [`nameservers`](Self::nameservers) and [`skip_nameserver`](Self::skip_nameserver) have no effect on it.
    pub fn resolver(mut self, resolver: StubResolver) -> Self {
        self.resolver = Some(resolver);
        self
    }

    /// Sets the proxy: one for all requests, or a selector that is asked about each request and each hop of a redirect.
    ///
    /// By default the environment decides, as it is when the client is built ([`ProxySelector::from_env`]).
    /// [`ProxySelector::none`] connects directly.
    ///
    /// An HTTP or HTTPS proxy is sent requests to `http` URLs, to forward them. For everything else it is asked for a
    /// tunnel with CONNECT: for other URLs, HTTP/2 with prior knowledge, and requests with an `Upgrade` field. The TLS
    /// settings of this builder also apply to HTTPS proxies. Requests to different hosts share the connections to a
    /// proxy that forwards them, and count as one host for the limits per host.
    ///
    /// ```no_run
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use nettrace::{Client, TraceSink, proxy::Proxy};
    ///
    /// let sink = TraceSink::new();
    /// let proxy: Proxy = "http://joe:secret@proxy.example:3128".parse()?;
    /// let client = Client::builder(&sink).proxy(proxy).build()?;
    /// # Ok(()) }
    /// ```
    pub fn proxy(mut self, proxies: impl Into<ProxySelector>) -> Self {
        self.proxies = Some(proxies.into());
        self
    }

    /// Sets the only certificate authorities to trust. By default the operating system's verifier decides.
    #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
    pub fn roots(mut self, roots: Roots) -> Self {
        self.tls.roots = Some(roots);
        self
    }

    /// Sets the certificate for servers that ask for one.
    #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
    pub fn client_certificate(mut self, certificate: ClientCertificate) -> Self {
        self.tls.client_certificate = Some(certificate);
        self
    }

    /// Sets whether any certificate is accepted, for any name. An attacker on the path can read and change everything
    /// then.
    #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
    pub fn danger_accept_invalid_certs(mut self, accept: bool) -> Self {
        self.tls.accept_invalid = accept;
        self
    }

    /// Sets the TLS configuration. Settings of this builder about certificates have no effect then.
    ///
    /// If the configuration has no ALPN protocols, those of [`http_version`](Self::http_version) are offered. The
    /// certificates of failed handshakes are recorded only if its verifier is a
    /// [`TraceVerifier`](crate::tls::TraceVerifier).
    pub fn tls_config(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls.config = Some(config);
        self
    }

    /// Writes the secrets of all TLS connections to a key log, with which captured packets can be decrypted. Nothing
    /// is written by default.
    pub fn tls_key_log(mut self, key_log: &KeyLog) -> Self {
        self.tls.key_log = Some(key_log.clone());
        self
    }

    /// Sets how long a request may take in all, with its redirects, and until the body of the response was read.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Sets how long one TCP handshake may take.
    pub fn tcp_handshake_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.tcp_timeout = timeout.into();
        self
    }

    /// Sets how long a proxy may take to answer CONNECT, or for the SOCKS5 handshake.
    pub fn proxy_handshake_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.proxy_timeout = timeout.into();
        self
    }

    /// Sets how long a TLS handshake may take.
    pub fn tls_handshake_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.tls_timeout = timeout.into();
        self
    }

    /// Sets the keep-alive probes of TCP; every 15 seconds by default.
    pub fn tcp_keep_alive(mut self, keep_alive: KeepAlive) -> Self {
        self.tcp_keep_alive = keep_alive;
        self
    }

    /// Sets whether connections are used for more than one request; on by default.
    pub fn keep_alive(mut self, on: bool) -> Self {
        self.keep_alive = on;
        self
    }

    /// Sets whether gzip is requested and decoded; on by default.
    ///
    /// Requests with an `Accept-Encoding` or `Range` of their own, and HEAD, are left alone.
    pub fn compression(mut self, on: bool) -> Self {
        self.compression = on;
        self
    }

    /// Sets how many idle connections are kept to all hosts together; 100 by default, `None` for any number.
    ///
    /// If there are more, the one that has been idle longest is closed (`idle-limit`).
    pub fn max_idle_conns(mut self, max: impl Into<Option<usize>>) -> Self {
        self.limits.max_idle = max.into();
        self
    }

    /// Sets how many idle connections are kept to one host; any number by default, within
    /// [`max_idle_conns`](Self::max_idle_conns).
    pub fn max_idle_conns_per_host(mut self, max: impl Into<Option<usize>>) -> Self {
        self.limits.max_idle_per_host = max.into();
        self
    }

    /// Sets how many connections there may be to one host, at least one, those being dialed included; any number by
    /// default.
    ///
    /// Requests that need another connection wait. Their records show the time as `blocked`.
    pub fn max_conns_per_host(mut self, max: impl Into<Option<usize>>) -> Self {
        self.limits.max_per_host = max.into().map(|max| max.max(1));
        self
    }

    /// Sets how long a connection may be idle before it is closed (`idle-limit`); 90 seconds by default, `None` for no
    /// limit.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.limits.idle_timeout = timeout.into();
        self
    }

    /// Sets how long the header of the response may take, from when the whole request was sent.
    pub fn response_header_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeouts.response_header = timeout.into();
        self
    }

    /// Sets how long a request with `Expect: 100-continue` waits for the server before it sends its body. By default it
    /// does not wait.
    pub fn expect_continue_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeouts.expect_continue = timeout.into();
        self
    }

    /// Sets how many redirects are followed; 9 by default, so that at most 10 requests are made, as in Go.
    ///
    /// With zero the redirect itself is the response. That is always so for CONNECT.
    ///
    /// A redirected request has a `Referer`, as in Go: the previous URL, with its query and without user info. None is
    /// sent from https to http. A `Referer` that the caller has set is kept on every hop.
    pub fn max_redirects(mut self, max: usize) -> Self {
        self.redirects = max;
        self
    }

    /// Sets the `User-Agent` of requests that have none; `nettrace/VERSION` by default, `None` for none.
    pub fn user_agent(mut self, agent: impl Into<Option<HeaderValue>>) -> Self {
        self.user_agent = agent.into();
        self
    }

    /// Adds a layer between redirects and tracing. It sees every hop, and requests that it makes are recorded. The
    /// layer added last is the outermost.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<ClientService> + Send + 'static,
        L::Service: Service<Request<Body>, Response = Response<ResponseBody>> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request<Body>>>::Error: Into<BoxError>,
        <L::Service as Service<Request<Body>>>::Future: Send,
    {
        self.layers.push(Box::new(move |inner| {
            BoxCloneSyncService::new(MapErr::new(layer.layer(inner), Into::<BoxError>::into))
        }));
        self
    }

    /// Builds the client.
    ///
    /// # Errors
    ///
    /// Returns an error if a resolver configuration file of the system exists but cannot be read. What is wrong with
    /// the TLS configuration is the error of the first request that needs it.
    pub fn build(mut self) -> Result<Client, ResolverConfigError> {
        if !self.keep_alive {
            self.limits.max_idle_per_host = Some(0);
        }
        // A deadline that `Instant` cannot represent is no limit.
        self.limits.idle_timeout = self.limits.idle_timeout.filter(|timeout| is_reachable(*timeout));
        let (connector, own_resolver) = self.connector()?;
        let config = PoolConfig {
            limits: self.limits,
            timeouts: self.timeouts,
            http2_only: self.version == HttpVersion::Http2Only,
            proxies: self.proxies.take().unwrap_or_else(ProxySelector::from_env),
        };
        let transport = TracedTransport {
            tracing: TraceRequestLayer::new(&self.sink).hold_redirects(self.redirects > 0),
            pool: Pool::new(connector, config),
            compression: self.compression,
        };
        let pool = transport.pool.clone();
        let stack = if self.layers.is_empty() {
            Stack::Plain(transport)
        } else {
            let innermost = BoxCloneSyncService::new(transport);
            Stack::Layered(self.layers.drain(..).fold(innermost, |service, layer| layer(service)))
        };
        Ok(Client::new(ClientStack {
            stack,
            sink: self.sink,
            pool,
            own_resolver,
            timeout: self.timeout,
            redirects: self.redirects,
            user_agent: self.user_agent,
            close_after_use: !self.keep_alive,
        }))
    }

    /// Returns the connector, and the resolver if it is not given.
    fn connector(&mut self) -> Result<(Connector, Option<StubResolver>), ResolverConfigError> {
        let (resolver, own_resolver) = match self.resolver.take() {
            Some(resolver) => (resolver, None),
            None => {
                let mut builder =
                    StubResolver::builder(&self.sink).source_ip(self.source_ip).ip_strategy(self.ip_strategy);
                if let Some(nameservers) = self.nameservers.take() {
                    if nameservers.iter().any(Nameserver::is_encrypted) {
                        builder = builder.tls_layer(self.nameserver_tls());
                    }
                    builder = builder.nameservers(nameservers);
                }
                if let Some(skip) = self.skip_nameserver.take() {
                    builder = builder.skip_nameserver(move |ip, port| skip(ip, port));
                }
                let resolver = builder.build()?;
                (resolver.clone(), Some(resolver))
            }
        };
        let through_proxy = ProxyLayer::new(&self.sink, ProxySelector::none())
            .resolver(resolver.clone())
            .handshake_timeout(self.proxy_timeout);
        let tcp = TcpConnector::new(&self.sink)
            .resolver(resolver)
            .source_ip(self.source_ip)
            .handshake_timeout(self.tcp_timeout)
            .keep_alive(self.tcp_keep_alive);
        let tls = self.tls_layer();
        Ok((tls.layer(through_proxy.layer(tls.with_alpn(&["http/1.1"]).layer(tcp))), own_resolver))
    }

    /// Returns the layer for connections to nameservers.
    fn nameserver_tls(&self) -> TraceTlsLayer {
        let mut builder = TraceTlsLayer::builder(&self.sink);
        if let Some(key_log) = &self.tls.key_log {
            builder = builder.key_log(key_log);
        }
        #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
        if let Some(roots) = &self.tls.roots {
            builder = builder.roots(roots.clone());
        }
        builder.build()
    }

    fn tls_layer(&mut self) -> TraceTlsLayer {
        let mut builder = TraceTlsLayer::builder(&self.sink);
        if let Some(timeout) = self.tls_timeout {
            builder = builder.handshake_timeout(timeout);
        }
        if let Some(key_log) = &self.tls.key_log {
            builder = builder.key_log(key_log);
        }
        let alpn = self.version.alpn();
        if let Some(mut config) = self.tls.config.take() {
            if config.alpn_protocols.is_empty() {
                Arc::make_mut(&mut config).alpn_protocols =
                    alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
            }
            return builder.config(config).build();
        }
        #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
        {
            builder = builder.alpn(alpn);
            if let Some(roots) = self.tls.roots.take() {
                builder = builder.roots(roots);
            }
            if let Some(certificate) = self.tls.client_certificate.take() {
                builder = builder.client_certificate(certificate);
            }
            if self.tls.accept_invalid {
                builder = builder.danger_accept_invalid_certs();
            }
        }
        builder.build()
    }
}

/// Returns `true` if there is an instant at that distance.
fn is_reachable(distance: Duration) -> bool {
    Instant::now().checked_add(distance).is_some()
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("version", &self.version)
            .field("timeout", &self.timeout)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
