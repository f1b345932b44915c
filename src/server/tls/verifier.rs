//! A verifier of client certificates that records them.

use crate::tls::on_peer_certificates;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    pki_types::{CertificateDer, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use std::{fmt, sync::Arc};

/// A verifier that records the certificates of clients, including rejected ones.
///
/// It decides nothing itself but asks the inner verifier. Wrap the verifier of the
/// [`ServerConfig`](rustls::ServerConfig) for a [`TraceTlsAcceptor`](super::TraceTlsAcceptor) in it.
///
/// ```
/// # use std::sync::Arc;
/// use nettrace::server::TraceClientVerifier;
/// use rustls::{ConfigBuilder, ServerConfig, WantsVerifier, server::{WantsServerCert, danger::ClientCertVerifier}};
///
/// # fn config(builder: ConfigBuilder<ServerConfig, WantsVerifier>, own: Arc<dyn ClientCertVerifier>)
/// #     -> ConfigBuilder<ServerConfig, WantsServerCert> {
/// builder.with_client_cert_verifier(Arc::new(TraceClientVerifier::new(own)))
/// # }
/// ```
pub struct TraceClientVerifier(Arc<dyn ClientCertVerifier>);

impl TraceClientVerifier {
    /// Wraps the verifier that decides.
    pub fn new(verifier: Arc<dyn ClientCertVerifier>) -> Self {
        TraceClientVerifier(verifier)
    }
}

impl fmt::Debug for TraceClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TraceClientVerifier").field(&self.0).finish()
    }
}

impl ClientCertVerifier for TraceClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        on_peer_certificates(end_entity, intermediates);
        self.0.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.0.requires_raw_public_keys()
    }
}
