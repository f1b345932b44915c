//! The setup of a reqwest client that is observed.

use super::{
    client::TraceClientBuilder, connector::TraceConnectorLayer, error::ObserveError, redirect, settings,
};
use crate::{resolve::StubResolver, sink::TraceSink, tls::TraceTlsLayer};
use ::reqwest::{ClientBuilder, dns::Resolve, redirect::Policy};
use rustls::ClientConfig;
use std::{fmt, sync::Arc};

/// Options for observing a reqwest client. [`trace`](super::trace) uses the defaults.
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
    redirect: Option<Policy>,
}

impl Observer {
    /// Creates an observer that records into `sink`.
    pub fn new(sink: &TraceSink) -> Self {
        let connector = TraceConnectorLayer::new(sink);
        Observer { connector, tls: None, resolver: None, redirect: None }
    }

    /// Uses an existing connector layer, which other clients may share, and records into its sink.
    pub fn connector_layer(mut self, layer: &TraceConnectorLayer) -> Self {
        self.connector = layer.clone();
        self
    }

    /// Sets the TLS configuration. By default the verifier of the operating system decides which certificates to trust.
    ///
    /// Certificates and handshakes are recorded if its verifier is a [`TraceVerifier`](crate::tls::TraceVerifier), as
    /// in one made with [`TraceTlsLayerBuilder::into_config`](crate::tls::TraceTlsLayerBuilder::into_config). If it has
    /// no ALPN protocols, HTTP/2 and HTTP/1.1 are offered.
    pub fn tls(mut self, config: ClientConfig) -> Self {
        self.tls = Some(config);
        self
    }

    /// Sets the resolver: a [`StubResolver`], whose messages are recorded, a resolver for hyper inside a
    /// [`Resolver`](super::Resolver), or one for reqwest. The default is [`StubResolver::system`].
    pub fn resolver(mut self, resolver: impl Resolve + 'static) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// Sets the redirect policy. The default is reqwest's, which follows up to ten redirects.
    pub fn redirect(mut self, policy: Policy) -> Self {
        self.redirect = Some(policy);
        self
    }

    /// Applies the options to reqwest's builder. Its other settings remain, except for the resolver and TLS, which are
    /// set with [`tls`](Self::tls).
    ///
    /// If the sink is [disabled](TraceSink::disabled) or closed, nothing will ever be recorded. Then only TLS and what
    /// was set here is installed, so that requests cost what they cost without tracing.
    ///
    /// # Errors
    ///
    /// Returns [`ObserveError::WouldBeLost`] if a setting of the builder would have no effect any more, as far as
    /// reqwest shows it: a redirect policy, accepting invalid certificates or host names, the minimal and maximal TLS
    /// version, no SNI, a key log, and a preconfigured TLS backend if reqwest's feature `default-tls` is on. Not shown,
    /// and lost without an error, are root certificates, revocation lists, a client identity, a resolver, and without
    /// `default-tls` a preconfigured TLS backend: set them with [`tls`](Self::tls) and [`resolver`](Self::resolver).
    ///
    /// Returns an error as well if the default resolver or root certificates are needed and this machine has none.
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
        // Set in any case: reqwest's own TLS may need a crypto provider of the process.
        let mut builder = builder.tls_backend_preconfigured(tls);
        if sink.may_record() {
            let resolver = match resolver {
                Some(resolver) => resolver,
                None => Arc::new(StubResolver::system(sink)?),
            };
            builder = builder
                .dns_resolver(resolver)
                .redirect(redirect::observed(redirect.unwrap_or_default(), sink))
                .connector_layer(connector.clone());
        } else {
            if let Some(resolver) = resolver {
                builder = builder.dns_resolver(resolver);
            }
            if let Some(policy) = redirect {
                builder = builder.redirect(policy);
            }
        }
        Ok(TraceClientBuilder { builder, connector })
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("connector", &self.connector).finish_non_exhaustive()
    }
}
