//! What is put into a reqwest client so that it can be observed.

use super::{
    client::TraceClientBuilder, connector::TraceConnectorLayer, error::ObserveError, redirect, settings,
};
use crate::{resolve::StubResolver, sink::TraceSink, tls::TraceTlsLayer};
use ::reqwest::{ClientBuilder, dns::Resolve, redirect::Policy};
use rustls::ClientConfig;
use std::{fmt, sync::Arc};

/// Choices for a reqwest client that is observed: what [`trace`](super::trace) does with the defaults.
///
/// ```
/// # use nettrace::{TraceSink, tls::{Roots, TraceTlsLayer}};
/// # use nettrace::reqwest::{Observer, TraceClient};
/// # fn client(sink: &TraceSink, roots: Roots) -> Result<TraceClient, Box<dyn std::error::Error>> {
/// let tls = TraceTlsLayer::builder(sink).roots(roots).alpn(["http/1.1"]).into_config()?;
/// let client = Observer::new(sink)
///     .tls(tls)
///     .redirect(reqwest::redirect::Policy::limited(3))
///     .install(reqwest::Client::builder().user_agent("me/1.0"))?
///     .build()?;
/// # Ok(client) }
/// ```
#[must_use = "it does nothing until `install`"]
pub struct Observer {
    connector: TraceConnectorLayer,
    tls: Option<ClientConfig>,
    resolver: Option<Arc<dyn Resolve>>,
    redirect: Policy,
}

impl Observer {
    /// Records into `sink`.
    pub fn new(sink: &TraceSink) -> Self {
        let connector = TraceConnectorLayer::new(sink);
        Observer { connector, tls: None, resolver: None, redirect: Policy::default() }
    }

    /// Puts this layer in, which other clients may have, too, and records into its sink.
    pub fn connector_layer(mut self, layer: &TraceConnectorLayer) -> Self {
        self.connector = layer.clone();
        self
    }

    /// Speaks TLS with this configuration. By default the machine's own verifier decides whom to trust.
    ///
    /// For certificates and handshakes to show in the trace its verifier must be a
    /// [`TraceVerifier`](crate::tls::TraceVerifier), as in one that
    /// [`TraceTlsLayerBuilder::into_config`](crate::tls::TraceTlsLayerBuilder::into_config) makes. Where it offers
    /// nothing with ALPN, HTTP/2 and HTTP/1.1 are offered.
    pub fn tls(mut self, config: ClientConfig) -> Self {
        self.tls = Some(config);
        self
    }

    /// Looks names up with this resolver: a [`StubResolver`], whose messages are recorded, any other of hyper's kind
    /// in a [`Resolver`](super::Resolver), or one of reqwest's. By default with [`StubResolver::system`].
    pub fn resolver(mut self, resolver: impl Resolve + 'static) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// Follows redirects by this policy; by default reqwest's own, up to ten.
    pub fn redirect(mut self, policy: Policy) -> Self {
        self.redirect = policy;
        self
    }

    /// Puts everything into a builder of reqwest's. What was set on it before still counts, but for a resolver, and
    /// for TLS: all of that is up to [`tls`](Self::tls).
    ///
    /// # Errors
    ///
    /// When something was set before that would be lost ([`ObserveError::WouldBeLost`]), as far as reqwest's builder
    /// shows it: a redirect policy, accepting invalid certificates or host names, the minimal and maximal TLS version,
    /// no SNI, a key log, and a preconfigured TLS backend where reqwest's feature `default-tls` is on. Not shown, and
    /// lost without an error, are root certificates, revocation lists, a client's identity, a resolver, and without
    /// `default-tls` a preconfigured TLS backend: give them to [`tls`](Self::tls) and [`resolver`](Self::resolver).
    ///
    /// And when by default there should be a resolver or roots of this machine's, and there are none.
    pub fn install(self, builder: ClientBuilder) -> Result<TraceClientBuilder, ObserveError> {
        if let Some(setting) = settings::lost_setting(&builder) {
            return Err(ObserveError::WouldBeLost(setting));
        }
        let Observer { connector, tls, resolver, redirect } = self;
        let connector = connector.for_client();
        let sink = &connector.sink;
        let mut tls = match tls {
            Some(config) => config,
            None => TraceTlsLayer::builder(sink).into_config()?,
        };
        if tls.alpn_protocols.is_empty() {
            tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        let resolver = match resolver {
            Some(resolver) => resolver,
            None => Arc::new(StubResolver::system(sink)?),
        };
        let builder = builder
            .tls_backend_preconfigured(tls)
            .dns_resolver(resolver)
            .redirect(redirect::observed(redirect, sink))
            .connector_layer(connector.clone());
        Ok(TraceClientBuilder { builder, connector })
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("connector", &self.connector).finish_non_exhaustive()
    }
}
