//! The parts of a configuration, and how it is put together from them.

use std::sync::Arc;

use rustls::{
    ClientConfig, SupportedProtocolVersion,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    version,
};

use super::{
    builder::{ConfigSource, TraceTlsLayerBuilder},
    roots::{ClientCertificate, Roots},
    self_signed::SelfSignedVerifier,
    verifier::{AcceptAnyCertificate, TraceVerifier},
};
use crate::error::{TlsError, rustls::ReadableError};

/// The configuration is put together from parts.
#[derive(Clone, Debug)]
pub struct ConfigParts {
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

impl Default for ConfigParts {
    fn default() -> Self {
        ConfigParts {
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
/// of them the machine's own verifier decides. On Linux a server's own certificate that is one of the machine's root
/// certificates is trusted, too, as curl and Go do; `SSL_CERT_FILE` and `SSL_CERT_DIR` name other ones.
impl TraceTlsLayerBuilder<ConfigParts> {
    /// Trusts these authorities, and no others.
    ///
    /// A server's own certificate that is one of them is trusted, too, self-signed or not: see [`Roots`].
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

impl ConfigSource for ConfigParts {
    fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let provider = provider();
        let verifier = TraceVerifier::new(self.trust.verifier(&provider)?);
        let versions = self.versions();
        let unusable = |error: rustls::Error| {
            TlsError::config("unusable TLS configuration", Some(Arc::new(ReadableError::new(error))))
        };
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

impl ConfigParts {
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
            Trust::Platform => {
                let platform =
                    rustls_platform_verifier::Verifier::new(provider.clone()).map_err(|error| {
                        let source = ReadableError::new(error);
                        TlsError::no_roots(
                            "this machine has no root certificates to trust",
                            Some(Arc::new(source)),
                        )
                    })?;
                Arc::new(SelfSignedVerifier::with_machine_roots(Arc::new(platform)))
            }
            Trust::Roots(roots) => {
                let webpki = WebPkiServerVerifier::builder_with_provider(roots.store(), provider.clone())
                    .build()
                    .map_err(|error| {
                        TlsError::no_roots("no root certificates were given", Some(Arc::new(error)))
                    })?;
                Arc::new(SelfSignedVerifier::new(webpki, roots.certificates()))
            }
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
