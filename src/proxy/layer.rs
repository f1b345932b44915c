use super::{ProxyConnector, ProxySelector, handshake::HandshakeConfig};
use crate::{resolve::StubResolver, sink::TraceSink};
use std::{sync::Arc, time::Duration};
use tower_layer::Layer;

/// Makes connectors that go through proxies; see the [module](super).
#[derive(Clone, Debug)]
pub struct ProxyLayer<R = StubResolver> {
    pub(super) selector: ProxySelector,
    pub(super) resolver: R,
    pub(super) tunnels_http: bool,
    pub(super) handshake: Arc<HandshakeConfig>,
}

impl ProxyLayer {
    /// Through one proxy, or as a [`ProxySelector`] says.
    ///
    /// Where names are looked up on this side, [`StubResolver`] does it, as this system is set up.
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
    /// Looks names up for `socks5` with any `Service<Name>` as hyper-util's connector takes them.
    pub fn resolver<S>(self, resolver: S) -> ProxyLayer<S> {
        let ProxyLayer { selector, tunnels_http, handshake, .. } = self;
        ProxyLayer { selector, resolver, tunnels_http, handshake }
    }

    /// How long a proxy may take, from when there is a connection to it until there is one to the destination: for
    /// CONNECT, or the handshake of SOCKS5. Unlimited by default.
    pub fn handshake_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        Arc::make_mut(&mut self.handshake).timeout = limit.into();
        self
    }

    /// Whether an HTTP proxy is asked with CONNECT for `http` destinations, too. By default it is left to forward
    /// requests to them.
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
