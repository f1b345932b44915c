use std::{fmt, sync::Arc};

#[cfg(feature = "reqwest")]
use rustls::ProtocolVersion;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

#[cfg(feature = "reqwest")]
use super::foreign_handshakes;
use super::handshake_observation;

/// A certificate verifier that records the certificates a server sent, so that the trace shows rejected ones too.
///
/// Every decision is left to the inner verifier. [`TraceTlsLayer`](super::TraceTlsLayer) puts one
/// into each configuration that it builds. Wrap the verifier of a configuration that you
/// [provide](super::TraceTlsLayerBuilder::config) yourself: without it, failed handshakes show no certificates.
///
/// ```
/// # use std::sync::Arc;
/// use nettrace::tls::TraceVerifier;
/// use rustls::client::danger::ServerCertVerifier;
///
/// # fn config(provider: Arc<rustls::crypto::CryptoProvider>, own: Arc<dyn ServerCertVerifier>)
/// #     -> Result<rustls::ClientConfig, rustls::Error> {
/// let config = rustls::ClientConfig::builder_with_provider(provider)
///     .with_safe_default_protocol_versions()?
///     .dangerous()
///     .with_custom_certificate_verifier(Arc::new(TraceVerifier::new(own)))
///     .with_no_client_auth();
/// # Ok(config)
/// # }
/// ```
///
/// One verifier serves all handshakes, since rustls resumes a session only with the verifier that it began with. Which
/// handshake it is asked about is known from a thread-local that is set while that handshake is polled.
pub struct TraceVerifier(Arc<dyn ServerCertVerifier>);

impl TraceVerifier {
    /// Wraps the verifier that makes the decisions.
    pub fn new(verifier: Arc<dyn ServerCertVerifier>) -> Self {
        TraceVerifier(verifier)
    }
}

impl fmt::Debug for TraceVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TraceVerifier").field(&self.0).finish()
    }
}

impl ServerCertVerifier for TraceVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        handshake_observation::on_peer_certificates(end_entity, intermediates);
        #[cfg(feature = "reqwest")]
        foreign_handshakes::on_server_certificates(end_entity, intermediates, server_name);
        self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        #[cfg(feature = "reqwest")]
        foreign_handshakes::on_server_signature(ProtocolVersion::TLSv1_2);
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        #[cfg(feature = "reqwest")]
        foreign_handshakes::on_server_signature(ProtocolVersion::TLSv1_3);
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        #[cfg(feature = "reqwest")]
        foreign_handshakes::on_client_hello(); // the ClientHello lists these schemes
        self.0.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.0.requires_raw_public_keys()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.0.root_hint_subjects()
    }
}

/// A verifier that accepts every certificate, but still verifies that the peer has its private key.
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
#[derive(Debug)]
pub(super) struct AcceptAnyCertificate(pub(super) Arc<rustls::crypto::CryptoProvider>);

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
