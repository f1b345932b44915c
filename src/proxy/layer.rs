use super::{ProxyConnector, ProxySelector, handshake::HandshakeConfig};
use crate::{resolve::StubResolver, sink::TraceSink};
use std::{sync::Arc, time::Duration};
use tower_layer::Layer;

/// A layer that makes a connector use proxies; see the [module](super).
#[derive(Clone, Debug)]
pub struct ProxyLayer<R = StubResolver> {
    pub(super) selector: ProxySelector,
    pub(super) resolver: R,
    pub(super) tunnels_http: bool,
    pub(super) handshake: Arc<HandshakeConfig>,
}

impl ProxyLayer {
    /// Creates a layer that uses one proxy, or those that a [`ProxySelector`] chooses.
    ///
    /// Names that are looked up here (`socks5`) are looked up by a [`StubResolver`] with the system's settings.
    pub fn new(sink: &TraceSink, selector: impl Into<ProxySelector>) -> Self {
        ProxyLayer {
            selector: selector.into(),
            resolver: StubResolver::system_or_default(sink),
            tunnels_http: false,
            handshake: Arc::new(HandshakeConfig { sink: sink.clone(), timeout: None }),
        }
    }
}

impl<R> ProxyLayer<R> {
    /// Looks names up for `socks5` with this resolver: any `Service<Name>` that hyper-util's `HttpConnector` accepts.
    pub fn resolver<S>(self, resolver: S) -> ProxyLayer<S> {
        let ProxyLayer { selector, tunnels_http, handshake, .. } = self;
        ProxyLayer { selector, resolver, tunnels_http, handshake }
    }

    /// Limits how long CONNECT or the SOCKS5 handshake may take, from the established connection to the proxy on.
    /// Unlimited by default.
    pub fn handshake_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        Arc::make_mut(&mut self.handshake).timeout = limit.into();
        self
    }

    /// Sets whether CONNECT is used for `http` destinations too. By default an HTTP proxy forwards requests to them.
    pub fn tunnel_http(mut self, on: bool) -> Self {
        self.tunnels_http = on;
        self
    }
}

impl<C, R: Clone> Layer<C> for ProxyLayer<R> {
    type Service = ProxyConnector<C, R>;

    fn layer(&self, connector: C) -> ProxyConnector<C, R> {
        ProxyConnector::new(connector, self.clone())
    }
}
