//! A rustls configuration that is put together from parts: whom to trust, which certificate to present, which
//! protocols and versions to offer.
//!
//! [`TraceTlsLayerBuilder`](super::TraceTlsLayerBuilder) has a method for each part while it is in the state
//! [`ConfigParts`].

use std::sync::Arc;

use rustls::{
    ClientConfig, SupportedProtocolVersion,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::CryptoProvider,
    version,
};

use super::{
    config_source::ConfigSource,
    roots::{ClientCertificate, Roots},
    self_signed::SelfSignedVerifier,
    verifier::{AcceptAnyCertificate, TraceVerifier},
};
use crate::error::{TlsError, rustls::ReadableError};

/// The state of a [`TraceTlsLayerBuilder`](super::TraceTlsLayerBuilder) in which the configuration is put together from
/// parts.
#[derive(Clone, Debug)]
pub struct ConfigParts {
    pub(super) trust: Trust,
    pub(super) client_certificate: Option<ClientCertificate>,
    pub(super) alpn: Vec<Vec<u8>>,
    pub(super) min_version: TlsVersion,
    pub(super) max_version: TlsVersion,
}

/// A supported version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

/// The decision on which server certificates are trusted.
#[derive(Clone, Debug)]
pub(super) enum Trust {
    /// The verifier of the operating system.
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
