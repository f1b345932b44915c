use std::{sync::Arc, time::Duration};

use rustls::ClientConfig;

use super::{
    certificate::ChainCache,
    error::TlsError,
    layer::{Settings, Shared, TraceTlsLayer},
    service::server_name,
};
use crate::sink::TraceSink;

/// Choices for a [`TraceTlsLayer`].
///
/// The TLS configuration is put together from the parts that are chosen here, or given
/// [whole](Self::config); the latter is the only way when neither of the features `ring` and `aws-lc-rs` is
/// enabled.
#[derive(Clone, Debug)]
#[must_use]
pub struct TraceTlsLayerBuilder<C> {
    sink: TraceSink,
    always: bool,
    handshake_timeout: Option<Duration>,
    server_name: Option<String>,
    config: C,
}

/// The configuration is given whole.
#[derive(Clone, Debug)]
pub struct Given(Arc<ClientConfig>);

impl<C> TraceTlsLayerBuilder<C> {
    /// TLS for every URI, whatever its scheme, and not for `https` alone.
    pub fn always(mut self) -> Self {
        self.always = true;
        self
    }

    /// How long a handshake may take, from the ClientHello on. Unlimited by default.
    ///
    /// It needs the timer of a tokio runtime.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = Some(limit);
        self
    }

    /// Asks for this name, and checks the certificate against it, in place of the URI's host.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Uses a configuration as it is; the choices about its parts are no longer there.
    ///
    /// For the certificates of failed handshakes to show in the trace, its verifier must be a
    /// [`TraceVerifier`](super::TraceVerifier). ALPN is part of it: hyper speaks HTTP/2 when `h2` is agreed on.
    pub fn config(self, config: Arc<ClientConfig>) -> TraceTlsLayerBuilder<Given> {
        let TraceTlsLayerBuilder { sink, always, handshake_timeout, server_name, config: _ } = self;
        TraceTlsLayerBuilder { sink, always, handshake_timeout, server_name, config: Given(config) }
    }
}

#[allow(private_bounds)] // Sealed: there are just the two ways of this module to a configuration.
impl<C: Configuration> TraceTlsLayerBuilder<C> {
    /// Makes the layer. What is wrong with the choices, or missing on this machine, is an error of every
    /// connection that wants TLS: plain ones may go on.
    pub fn build(self) -> TraceTlsLayer {
        let settings = self.settings();
        self.into_layer(settings)
    }

    /// As [`build`](Self::build), but finds out now.
    ///
    /// # Errors
    ///
    /// When the machine has no root certificates (`x_no_root_certificates`), the server name is none
    /// (`x_invalid_target`), the client certificate does not fit its key, or no version is left.
    pub fn try_build(self) -> Result<TraceTlsLayer, TlsError> {
        let settings = self.settings()?;
        Ok(self.into_layer(Ok(settings)))
    }

    fn settings(&self) -> Result<Settings, TlsError> {
        let server_name = self.server_name.as_deref().map(server_name).transpose()?;
        Ok(Settings { config: self.config.make()?, server_name })
    }

    fn into_layer(self, settings: Result<Settings, TlsError>) -> TraceTlsLayer {
        TraceTlsLayer::from_shared(Shared {
            sink: self.sink,
            settings,
            always: self.always,
            handshake_timeout: self.handshake_timeout,
            chains: Arc::new(ChainCache::new()),
        })
    }
}

/// A way to a configuration.
trait Configuration {
    fn make(&self) -> Result<Arc<ClientConfig>, TlsError>;
}

impl Configuration for Given {
    fn make(&self) -> Result<Arc<ClientConfig>, TlsError> {
        Ok(self.0.clone())
    }
}

#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
mod parts {
    /// Nothing to choose from: without cryptography of its own, the crate needs the configuration whole.
    #[derive(Clone, Debug, Default)]
    pub struct Parts(());
}

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
mod parts {
    use std::sync::Arc;

    use rustls::{
        ClientConfig, SupportedProtocolVersion,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier},
        crypto::CryptoProvider,
        version,
    };

    use super::super::{
        error::TlsError,
        roots::{ClientCertificate, Roots},
        verifier::{AcceptAnyCertificate, TraceVerifier},
    };
    use super::{Configuration, TraceTlsLayerBuilder};

    /// The configuration is put together from parts.
    #[derive(Clone, Debug)]
    pub struct Parts {
        trust: Trust,
        client_certificate: Option<ClientCertificate>,
        alpn: Vec<Vec<u8>>,
        min_version: TlsVersion,
        max_version: TlsVersion,
    }

    /// A version of TLS that can be spoken.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
    #[non_exhaustive]
    pub enum TlsVersion {
        /// TLS 1.2 (RFC 5246).
        Tls12,
        /// TLS 1.3 (RFC 8446).
        Tls13,
    }

    #[derive(Clone, Debug)]
    enum Trust {
        Platform,
        Roots(Roots),
        Verifier(Arc<dyn ServerCertVerifier>),
        Anything,
    }

    impl Default for Parts {
        fn default() -> Self {
            Parts {
                trust: Trust::Platform,
                client_certificate: None,
                alpn: Vec::new(),
                min_version: TlsVersion::Tls12,
                max_version: TlsVersion::Tls13,
            }
        }
    }

    /// Of [`roots`](Self::roots), [`verifier`](Self::verifier) and
    /// [`danger_accept_invalid_certs`](Self::danger_accept_invalid_certs) the last call counts; without any
    /// of them the machine's own verifier decides.
    impl TraceTlsLayerBuilder<Parts> {
        /// Trusts these authorities, and no others.
        pub fn roots(mut self, roots: Roots) -> Self {
            self.config.trust = Trust::Roots(roots);
            self
        }

        /// Leaves it to this verifier whom to trust.
        pub fn verifier(mut self, verifier: Arc<dyn ServerCertVerifier>) -> Self {
            self.config.trust = Trust::Verifier(verifier);
            self
        }

        /// Accepts any certificate, for any name. Whoever sits in between can read and change everything.
        pub fn danger_accept_invalid_certs(mut self) -> Self {
            self.config.trust = Trust::Anything;
            self
        }

        /// Shows this certificate to a server that asks for one.
        pub fn client_certificate(mut self, certificate: ClientCertificate) -> Self {
            self.config.client_certificate = Some(certificate);
            self
        }

        /// Offers these protocols with ALPN (RFC 7301), the preferred one first: `["h2", "http/1.1"]`. By
        /// default none.
        pub fn alpn(mut self, protocols: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
            self.config.alpn = protocols.into_iter().map(|name| name.as_ref().to_vec()).collect();
            self
        }

        /// The lowest version that is acceptable; TLS 1.2 by default.
        pub fn min_version(mut self, version: TlsVersion) -> Self {
            self.config.min_version = version;
            self
        }

        /// The highest version that is offered; TLS 1.3 by default.
        pub fn max_version(mut self, version: TlsVersion) -> Self {
            self.config.max_version = version;
            self
        }
    }

    impl Configuration for Parts {
        fn make(&self) -> Result<Arc<ClientConfig>, TlsError> {
            let provider = provider();
            let verifier = TraceVerifier::new(self.trust.verifier(&provider)?);
            let versions = self.versions();
            let unusable = |error: rustls::Error| TlsError::config("unusable TLS configuration", Some(Arc::new(error)));
            let builder = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&versions)
                .map_err(unusable)?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier));
            let mut config = match &self.client_certificate {
                None => builder.with_no_client_auth(),
                Some(certificate) => {
                    let (chain, key) = certificate.parts();
                    builder.with_client_auth_cert(chain, key).map_err(unusable)?
                }
            };
            config.alpn_protocols.clone_from(&self.alpn);
            Ok(Arc::new(config))
        }
    }

    impl Parts {
        fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
            [(TlsVersion::Tls13, &version::TLS13), (TlsVersion::Tls12, &version::TLS12)]
                .into_iter()
                .filter(|(version, _)| (self.min_version..=self.max_version).contains(version))
                .map(|(_, supported)| supported)
                .collect()
        }
    }

    impl Trust {
        fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
            Ok(match self {
                Trust::Platform => Arc::new(
                    rustls_platform_verifier::Verifier::new(provider.clone()).map_err(|error| {
                        TlsError::no_roots("this machine has no root certificates to trust", Some(Arc::new(error)))
                    })?,
                ),
                Trust::Roots(roots) => WebPkiServerVerifier::builder_with_provider(roots.store(), provider.clone())
                    .build()
                    .map_err(|error| TlsError::no_roots("no root certificates were given", Some(Arc::new(error))))?,
                Trust::Verifier(verifier) => verifier.clone(),
                Trust::Anything => Arc::new(AcceptAnyCertificate(provider.clone())),
            })
        }
    }

    fn provider() -> Arc<CryptoProvider> {
        #[cfg(feature = "aws-lc-rs")]
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        #[cfg(not(feature = "aws-lc-rs"))]
        let provider = rustls::crypto::ring::default_provider();
        Arc::new(provider)
    }
}

pub use parts::*;

impl TraceTlsLayerBuilder<Parts> {
    pub(super) fn new(sink: &TraceSink) -> Self {
        TraceTlsLayerBuilder {
            sink: sink.clone(),
            always: false,
            handshake_timeout: None,
            server_name: None,
            config: Parts::default(),
        }
    }
}
