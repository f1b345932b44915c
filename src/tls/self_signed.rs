//! Self-signed certificates, handled as curl and Go do.
//!
//! webpki refuses every end-entity certificate with `CA:TRUE`, which `openssl req -x509` sets by default, before it
//! looks for an issuer. The most common self-signed certificate could therefore not be trusted by naming it as a root,
//! and the error would not say that its issuer is unknown. [`SelfSignedVerifier`] wraps webpki's verifier or the
//! platform's, accepts pinned certificates itself, and turns that refusal into the error that applies.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ExtendedKeyPurpose, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use x509_parser::{
    certificate::X509Certificate, extensions::ExtendedKeyUsage, prelude::FromDer, time::ASN1Time,
};

use crate::error::rustls::is_ca_as_end_entity;

/// A verifier that accepts pinned certificates itself and leaves all others to the inner verifier.
///
/// A pinned certificate needs no issuer: it must be valid now, for servers, and for the server's name. The handshake's
/// signature is always verified by the inner verifier.
#[derive(Debug)]
pub(super) struct SelfSignedVerifier {
    inner: Arc<dyn ServerCertVerifier>,
    pinned: Pinned,
}

/// The certificates that are trusted without an issuer, compared byte by byte.
#[derive(Debug)]
enum Pinned {
    /// A list that was given. The inner verifier is not asked about them.
    Explicit(Arc<[CertificateDer<'static>]>),
    /// The machine's own root certificates. They are read once, when the inner verifier first refuses a certificate
    /// with `CA:TRUE`; it accepts the others itself.
    Machine(OnceLock<Vec<CertificateDer<'static>>>),
}

impl SelfSignedVerifier {
    /// Creates a verifier that accepts these certificates without an issuer.
    pub(super) fn new(inner: Arc<dyn ServerCertVerifier>, pinned: Arc<[CertificateDer<'static>]>) -> Self {
        SelfSignedVerifier { inner, pinned: Pinned::Explicit(pinned) }
    }

    /// Creates a verifier that accepts the machine's own root certificates as server certificates, where the inner
    /// verifier takes its roots from the same files.
    pub(super) fn with_machine_roots(inner: Arc<dyn ServerCertVerifier>) -> Self {
        SelfSignedVerifier { inner, pinned: Pinned::Machine(OnceLock::new()) }
    }
}

impl ServerCertVerifier for SelfSignedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verify_pinned =
            || verify_pinned(end_entity, server_name, now).map(|()| ServerCertVerified::assertion());
        if let Pinned::Explicit(certificates) = &self.pinned
            && certificates.contains(end_entity)
        {
            return verify_pinned();
        }
        let verified =
            self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if let Err(error) = &verified
            && let Pinned::Machine(certificates) = &self.pinned
            && is_refused_authority(error)
            && certificates.get_or_init(machine_roots).contains(end_entity)
        {
            return verify_pinned();
        }
        verified.map_err(|error| explain_refused_authority(error, end_entity))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.inner.requires_raw_public_keys()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.inner.root_hint_subjects()
    }
}

/// Checks the validity, the purpose and the names of an end-entity certificate as webpki does. Its issuer and `CA:TRUE`
/// are not checked.
///
/// The order is webpki's, so that a certificate with several faults has the same error.
fn verify_pinned(
    certificate: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
    now: UnixTime,
) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(certificate)?; // refuses unknown critical extensions
    let (_, fields) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let validity = fields.validity();
    let (not_before, not_after) = (unix_time(&validity.not_before), unix_time(&validity.not_after));
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
    }
    let usage = fields.extended_key_usage().map_err(|_| CertificateError::BadEncoding)?;
    if let Some(usage) = usage.map(|extension| extension.value)
        && !usage.server_auth
    {
        let required = ExtendedKeyPurpose::ServerAuth;
        return Err(CertificateError::InvalidPurposeContext { required, presented: purposes(usage) }.into());
    }
    verify_server_name(&parsed, server_name)
}

/// Converts a time. Times before 1970 become 1970.
fn unix_time(time: &ASN1Time) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(time.timestamp().try_into().unwrap_or_default()))
}

fn purposes(usage: &ExtendedKeyUsage<'_>) -> Vec<ExtendedKeyPurpose> {
    const ANY: [usize; 5] = [2, 5, 29, 37, 0]; // RFC 5280 section 4.2.1.12
    let any = usage.any.then(|| ExtendedKeyPurpose::Other(ANY.to_vec()));
    let named = any.into_iter().chain(usage.client_auth.then_some(ExtendedKeyPurpose::ClientAuth));
    let others = usage.other.iter().filter_map(|oid| {
        let arcs = oid.iter()?.map(|arc| arc.try_into().unwrap_or(usize::MAX));
        Some(ExtendedKeyPurpose::Other(arcs.collect()))
    });
    named.chain(others).collect()
}

/// Reads the root certificates that the platform's verifier trusts. Empty where it does not read them from files.
fn machine_roots() -> Vec<CertificateDer<'static>> {
    #[cfg(target_os = "linux")]
    return rustls_native_certs::load_native_certs().certs;
    #[cfg(not(target_os = "linux"))]
    Vec::new()
}

fn is_refused_authority(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(error) if is_ca_as_end_entity(error))
}

/// Replaces webpki's refusal of `CA:TRUE` with the error that applies: a self-signed certificate has an unknown issuer,
/// any other one is used for the wrong purpose.
fn explain_refused_authority(error: Error, certificate: &CertificateDer<'_>) -> Error {
    if !is_refused_authority(&error) {
        return error;
    }
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return error };
    if certificate.subject().as_raw() == certificate.issuer().as_raw() {
        CertificateError::UnknownIssuer.into()
    } else {
        CertificateError::InvalidPurpose.into()
    }
}
