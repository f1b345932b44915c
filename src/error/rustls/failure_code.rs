//! The codes of the errors of rustls.
//!
//! An alert means another thing to a client than to a server: where it is about a certificate, it is about the
//! certificate of the side that receives it.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::is_ca_as_end_entity;
use crate::record::Failure;

/// Returns the code of an error of rustls that a client meets.
pub(crate) fn rustls_failure(error: &Error) -> Failure {
    match error {
        Error::InvalidCertificate(error) => certificate_failure(error),
        Error::InvalidCertRevocationList(_) => Failure::SslInvalidCertificate,
        Error::AlertReceived(alert) => alert_failure(*alert),
        // The first bytes of an HTTP, SSH or SMTP server are no TLS record.
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => Failure::TlsNotTls,
        _ => Failure::SslFailedHandshake,
    }
}

/// Returns the code of an error of rustls that a server meets, where an alert about a certificate refers to the
/// server's own.
#[cfg(any(feature = "relay", feature = "server"))]
pub(crate) fn server_failure(error: &Error) -> Failure {
    match error {
        Error::NoCertificatesPresented => Failure::TlsClientCertificateRequired,
        Error::AlertReceived(AlertDescription::UnknownCA) => Failure::SslUnknownAuthority,
        Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown,
        ) => Failure::SslInvalidCertificate,
        error => rustls_failure(error),
    }
}

fn certificate_failure(error: &CertificateError) -> Failure {
    match error {
        CertificateError::UnknownIssuer => Failure::SslUnknownAuthority,
        // Nearly always a self-signed certificate. This crate's verifier distinguishes the others.
        error if is_ca_as_end_entity(error) => Failure::SslUnknownAuthority,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Failure::SslInvalidHostname
        }
        _ => Failure::SslInvalidCertificate,
    }
}

fn alert_failure(alert: AlertDescription) -> Failure {
    match alert {
        // A server that sends these alerts means the client's certificate or its absence.
        AlertDescription::CertificateRequired
        | AlertDescription::NoCertificate
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA => Failure::TlsClientCertificateRequired,
        // These alerts occur in handshakes only.
        AlertDescription::HandshakeFailure
        | AlertDescription::IllegalParameter
        | AlertDescription::DecodeError
        | AlertDescription::DecryptError
        | AlertDescription::ProtocolVersion
        | AlertDescription::InsufficientSecurity
        | AlertDescription::InappropriateFallback
        | AlertDescription::MissingExtension
        | AlertDescription::UnsupportedExtension
        | AlertDescription::UnrecognisedName
        | AlertDescription::UnknownPSKIdentity
        | AlertDescription::NoApplicationProtocol
        | AlertDescription::EncryptedClientHelloRequired => Failure::SslFailedHandshake,
        _ => Failure::TlsAlert,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_codes() {
        let invalid = |error| rustls_failure(&Error::InvalidCertificate(error));
        assert_eq!(invalid(CertificateError::UnknownIssuer), Failure::SslUnknownAuthority);
        assert_eq!(invalid(CertificateError::Expired), Failure::SslInvalidCertificate);
        assert_eq!(invalid(CertificateError::NotValidYet), Failure::SslInvalidCertificate);
        assert_eq!(invalid(CertificateError::NotValidForName), Failure::SslInvalidHostname);
        let received = |alert| rustls_failure(&Error::AlertReceived(alert));
        assert_eq!(received(AlertDescription::HandshakeFailure), Failure::SslFailedHandshake);
        assert_eq!(received(AlertDescription::CertificateRequired), Failure::TlsClientCertificateRequired);
        assert_eq!(received(AlertDescription::InternalError), Failure::TlsAlert);
        let corrupt = Error::InvalidMessage(InvalidMessage::InvalidContentType);
        assert_eq!(rustls_failure(&corrupt), Failure::TlsNotTls);
        assert_eq!(rustls_failure(&Error::DecryptError), Failure::SslFailedHandshake);
    }

    #[test]
    #[cfg(feature = "server")]
    fn errors_of_a_server_have_codes() {
        let received = |alert| server_failure(&Error::AlertReceived(alert));
        assert_eq!(received(AlertDescription::UnknownCA), Failure::SslUnknownAuthority);
        assert_eq!(received(AlertDescription::CertificateExpired), Failure::SslInvalidCertificate);
        assert_eq!(received(AlertDescription::HandshakeFailure), Failure::SslFailedHandshake);
        assert_eq!(server_failure(&Error::NoCertificatesPresented), Failure::TlsClientCertificateRequired);
    }
}
