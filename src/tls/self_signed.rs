//! Certificates that nobody else has signed, treated as curl and Go treat them.
//!
//! webpki refuses every end-entity certificate with `CA:TRUE`, which `openssl req -x509` sets by default, before it
//! looks for an issuer. So the most common self-signed certificate could not be trusted by naming it, and the error did
//! not say that it is unknown.

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

/// A verifier that accepts pinned certificates itself and leaves all others to the verifier inside.
///
/// A pinned certificate needs no issuer: it must be valid now, for servers, and for the server's name. The handshake's
/// signature is always verified by the verifier inside.
#[derive(Debug)]
pub(super) struct SelfSignedVerifier {
    inner: Arc<dyn ServerCertVerifier>,
    pinned: Pinned,
}

/// The certificates that servers may show as their own, compared byte by byte.
#[derive(Debug)]
enum Pinned {
    /// These, in place of what the verifier inside says.
    Explicit(Arc<[CertificateDer<'static>]>),
    /// The machine's own root certificates. They are read once, when the verifier inside first refuses a certificate
    /// with `CA:TRUE`; it accepts the others by itself.
    Machine(OnceLock<Vec<CertificateDer<'static>>>),
}

impl SelfSignedVerifier {
    /// Creates a verifier that accepts these certificates, compared byte by byte.
    pub(super) fn new(inner: Arc<dyn ServerCertVerifier>, pinned: Arc<[CertificateDer<'static>]>) -> Self {
        SelfSignedVerifier { inner, pinned: Pinned::Explicit(pinned) }
    }

    /// Creates a verifier that accepts the machine's own root certificates as those of servers, where the verifier
    /// inside takes its roots from the same files.
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

/// Times before 1970 count as 1970.
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

/// Reads the root certificates that the platform's verifier trusts, where it reads them from files.
fn machine_roots() -> Vec<CertificateDer<'static>> {
    #[cfg(target_os = "linux")]
    return rustls_native_certs::load_native_certs().certs;
    #[cfg(not(target_os = "linux"))]
    Vec::new()
}

fn is_refused_authority(error: &Error) -> bool {
    matches!(error, Error::InvalidCertificate(error) if is_ca_as_end_entity(error))
}

/// Says what webpki's refusal of `CA:TRUE` means, in rustls's own terms: a self-signed certificate has no known issuer,
/// any other one is misused.
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
