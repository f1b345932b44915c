//! How the preset is put together.

use super::{
    Client, ClientStack, Stack,
    body::{Body, ResponseBody},
    pool::{Connector, Limits, Pool, PoolConfig, Timeouts},
    traced_transport::TracedTransport,
};
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
use crate::tls::{ClientCertificate, Roots};
use crate::{
    connect::{KeepAlive, TcpConnector},
    error::BoxError,
    proxy::{ProxyLayer, ProxySelector},
    request::TraceRequestLayer,
    resolve::{ResolverConfigError, StubResolver},
    sink::TraceSink,
    tls::{KeyLog, TraceTlsLayer},
};
use http::{HeaderValue, Request, Response};
use rustls::ClientConfig;
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tower::util::{BoxCloneSyncService, MapErr};
use tower_layer::Layer;
use tower_service::Service;

/// The service below redirects, as the layers of [`ClientBuilder::layer`] see it.
pub type ClientService = BoxCloneSyncService<Request<Body>, Response<ResponseBody>, BoxError>;

/// Which version of HTTP to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpVersion {
    /// HTTP/2 where TLS agrees on it, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 where TLS agrees on it, else HTTP/2. A server may have a preference of its own.
    PreferHttp1,
    /// HTTP/1.1.
    Http1Only,
    /// HTTP/2 with prior knowledge (RFC 9113 section 3.3), also without TLS.
    Http2Only,
}

impl HttpVersion {
    /// In the order of preference (RFC 7301).
    fn alpn(self) -> &'static [&'static str] {
        match self {
            HttpVersion::Auto => &["h2", "http/1.1"],
            HttpVersion::PreferHttp1 => &["http/1.1", "h2"],
            HttpVersion::Http1Only => &["http/1.1"],
            HttpVersion::Http2Only => &["h2"],
        }
    }
}

/// Choices for a [`Client`].
///
/// Idle connections are limited as Go's `Transport` limits them: 100 to all hosts together, each for 90 seconds. There
/// is no other limit unless it is set here.
#[must_use = "a builder does nothing until `build`"]
pub struct ClientBuilder {
    sink: TraceSink,
    version: HttpVersion,
    source_ip: Option<IpAddr>,
    nameservers: Option<Vec<SocketAddr>>,
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

    /// Which version of HTTP to speak; [`HttpVersion::Auto`] by default.
    pub fn http_version(mut self, version: HttpVersion) -> Self {
        self.version = version;
        self
    }

    /// The local address to connect from, and to ask nameservers from that are not on loopback.
    pub fn source_ip(mut self, ip: impl Into<Option<IpAddr>>) -> Self {
        self.source_ip = ip.into();
        self
    }

    /// The nameservers to ask instead of the system's, in this order.
    pub fn nameservers(mut self, nameservers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.nameservers = Some(nameservers.into_iter().collect());
        self
    }

    /// Decides about each nameserver right before it is asked: `Some(reason)` skips it.
    pub fn skip_nameserver(
        mut self,
        skip: impl Fn(IpAddr, u16) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.skip_nameserver = Some(Arc::new(skip));
        self
    }

    /// Looks names up with this resolver; the choices about nameservers here do not count then.
    pub fn resolver(mut self, resolver: StubResolver) -> Self {
        self.resolver = Some(resolver);
        self
    }

    /// Which proxies to go through: one, or as a selector says of each request and each hop of a redirect. By default
    /// those of the environment, as it is when the client is built ([`ProxySelector::from_env`]);
    /// [`ProxySelector::none`] for none.
    ///
    /// An HTTP or HTTPS proxy forwards requests to `http` URLs, and is asked with CONNECT for all others, for HTTP/2 with
    /// prior knowledge, and for what asks for another protocol (`Upgrade`). What is said here about TLS counts for HTTPS
    /// proxies, too. Connections are shared by those who go the same way: through a proxy that forwards, by requests to
    /// any host, which all count as one for the limits per host.
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

    /// Trusts these authorities, and no others. By default the machine's own verifier decides.
    #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
    pub fn roots(mut self, roots: Roots) -> Self {
        self.tls.roots = Some(roots);
        self
    }

    /// Shows this certificate to a server that asks for one.
    #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
    pub fn client_certificate(mut self, certificate: ClientCertificate) -> Self {
        self.tls.client_certificate = Some(certificate);
        self
    }

    /// Accepts any certificate, for any name. Whoever sits in between can read and change everything.
    #[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
    pub fn danger_accept_invalid_certs(mut self, accept: bool) -> Self {
        self.tls.accept_invalid = accept;
        self
    }

    /// Uses this TLS configuration; the other choices about TLS do not count then. Where it offers no protocols
    /// (ALPN), those of [`http_version`](Self::http_version) are offered. For failed handshakes to show their
    /// certificates its verifier must be a [`TraceVerifier`](crate::tls::TraceVerifier).
    pub fn tls_config(mut self, config: Arc<ClientConfig>) -> Self {
        self.tls.config = Some(config);
        self
    }

    /// Keeps the secrets of all TLS connections, with which what they carry can be decrypted. None are kept by
    /// default.
    pub fn tls_key_log(mut self, key_log: &KeyLog) -> Self {
        self.tls.key_log = Some(key_log.clone());
        self
    }

    /// How long a request may take in all: with redirects, and until the response's body was read.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// How long one TCP handshake may take.
    pub fn tcp_handshake_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.tcp_timeout = timeout.into();
        self
    }

    /// How long a proxy may take for its answer to CONNECT, or for the handshake of SOCKS5.
    pub fn proxy_handshake_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.proxy_timeout = timeout.into();
        self
    }

    /// How long a TLS handshake may take.
    pub fn tls_handshake_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.tls_timeout = timeout.into();
        self
    }

    /// Keep-alive probes of TCP; every 15 seconds by default.
    pub fn tcp_keep_alive(mut self, keep_alive: KeepAlive) -> Self {
        self.tcp_keep_alive = keep_alive;
        self
    }

    /// Whether connections are used for more than one request. They are by default.
    pub fn keep_alive(mut self, on: bool) -> Self {
        self.keep_alive = on;
        self
    }

    /// Whether gzip is asked for, and undone, in requests that say nothing of encodings. It is by default.
    pub fn compression(mut self, on: bool) -> Self {
        self.compression = on;
        self
    }

    /// Sets how many idle connections are kept to all hosts together; 100 by default, `None` for any number. Where
    /// there are more, the one that has been idle for the longest is closed (`idle-limit`).
    pub fn max_idle_conns(mut self, max: impl Into<Option<usize>>) -> Self {
        self.limits.max_idle = max.into();
        self
    }

    /// Sets how many idle connections are kept to one host; any number by default, within the limit for all hosts
    /// together ([`max_idle_conns`](Self::max_idle_conns)).
    pub fn max_idle_conns_per_host(mut self, max: impl Into<Option<usize>>) -> Self {
        self.limits.max_idle_per_host = max.into();
        self
    }

    /// How many connections to have to one host, those being made included. Requests that need another one wait;
    /// their records show it as `blocked`. At least one.
    pub fn max_conns_per_host(mut self, max: impl Into<Option<usize>>) -> Self {
        self.limits.max_per_host = max.into().map(|max| max.max(1));
        self
    }

    /// Sets how long a connection may be idle before it is closed (`idle-limit`); 90 seconds by default, `None` for
    /// any time.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.limits.idle_timeout = timeout.into();
        self
    }

    /// How long the response's header may take once the request was sent whole.
    pub fn response_header_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeouts.response_header = timeout.into();
        self
    }

    /// How long the body of a request with `Expect: 100-continue` waits for the server's word. By default it does
    /// not wait.
    pub fn expect_continue_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeouts.expect_continue = timeout.into();
        self
    }

    /// How many redirects to follow; 9 by default, so that 10 requests are made at most, as Go does. With zero the
    /// redirect itself is the response, as always to a CONNECT.
    ///
    /// A redirected request has a `Referer`, as with Go: the URL before it, with its query and without user info. None
    /// is sent from https to http. A `Referer` of the caller's own stays, on every hop.
    pub fn max_redirects(mut self, max: usize) -> Self {
        self.redirects = max;
        self
    }

    /// The `User-Agent` of requests that have none; `nettrace/VERSION` by default, `None` for none.
    pub fn user_agent(mut self, agent: impl Into<Option<HeaderValue>>) -> Self {
        self.user_agent = agent.into();
        self
    }

    /// Adds a layer between redirects and tracing: it sees every hop, and what it does is recorded. The layer
    /// added last is the outermost.
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

    /// Puts the client together.
    ///
    /// # Errors
    ///
    /// When the system's files about names are there but cannot be read. What is wrong with TLS shows in the
    /// first request that needs it.
    pub fn build(mut self) -> Result<Client, ResolverConfigError> {
        if !self.keep_alive {
            self.limits.max_idle_per_host = Some(0);
        }
        // What ends after the end of time is no limit.
        self.limits.idle_timeout = self.limits.idle_timeout.filter(|timeout| is_reachable(*timeout));
        let connector = self.connector()?;
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
            timeout: self.timeout,
            redirects: self.redirects,
            user_agent: self.user_agent,
            close_after_use: !self.keep_alive,
        }))
    }

    fn connector(&mut self) -> Result<Connector, ResolverConfigError> {
        let resolver = match self.resolver.take() {
            Some(resolver) => resolver,
            None => {
                let mut builder = StubResolver::builder(&self.sink).source_ip(self.source_ip);
                if let Some(nameservers) = self.nameservers.take() {
                    builder = builder.nameservers(nameservers);
                }
                if let Some(skip) = self.skip_nameserver.take() {
                    builder = builder.skip_nameserver(move |ip, port| skip(ip, port));
                }
                builder.build()?
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
        Ok(tls.layer(through_proxy.layer(tls.with_alpn(&["http/1.1"]).layer(tcp))))
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
