//! From the errors of rustls to stable codes.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use crate::record::Failure;

/// The code of an error of rustls, wherever it came up.
pub(crate) fn rustls_failure(error: &Error) -> Failure {
    match error {
        Error::InvalidCertificate(error) => certificate_failure(error),
        Error::InvalidCertRevocationList(_) => Failure::SslInvalidCertificate,
        Error::AlertReceived(alert) => alert_failure(*alert),
        // What an HTTP, SSH or SMTP server says first is no record of TLS.
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => Failure::TlsNotTls,
        _ => Failure::SslFailedHandshake,
    }
}

/// The same of an error that a server meets: what is said of certificates means its own when the client says it.
#[cfg(feature = "server")]
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

/// The name that RFC 8446 §6 and the IANA registry "TLS Alerts" give an alert, such as `unknown_ca`.
pub(crate) fn alert_name(alert: AlertDescription) -> String {
    let name = match alert {
        AlertDescription::CloseNotify => "close_notify",
        AlertDescription::UnexpectedMessage => "unexpected_message",
        AlertDescription::BadRecordMac => "bad_record_mac",
        AlertDescription::DecryptionFailed => "decryption_failed",
        AlertDescription::RecordOverflow => "record_overflow",
        AlertDescription::DecompressionFailure => "decompression_failure",
        AlertDescription::HandshakeFailure => "handshake_failure",
        AlertDescription::NoCertificate => "no_certificate",
        AlertDescription::BadCertificate => "bad_certificate",
        AlertDescription::UnsupportedCertificate => "unsupported_certificate",
        AlertDescription::CertificateRevoked => "certificate_revoked",
        AlertDescription::CertificateExpired => "certificate_expired",
        AlertDescription::CertificateUnknown => "certificate_unknown",
        AlertDescription::IllegalParameter => "illegal_parameter",
        AlertDescription::UnknownCA => "unknown_ca",
        AlertDescription::AccessDenied => "access_denied",
        AlertDescription::DecodeError => "decode_error",
        AlertDescription::DecryptError => "decrypt_error",
        AlertDescription::ExportRestriction => "export_restriction",
        AlertDescription::ProtocolVersion => "protocol_version",
        AlertDescription::InsufficientSecurity => "insufficient_security",
        AlertDescription::InternalError => "internal_error",
        AlertDescription::InappropriateFallback => "inappropriate_fallback",
        AlertDescription::UserCanceled => "user_canceled",
        AlertDescription::NoRenegotiation => "no_renegotiation",
        AlertDescription::MissingExtension => "missing_extension",
        AlertDescription::UnsupportedExtension => "unsupported_extension",
        AlertDescription::CertificateUnobtainable => "certificate_unobtainable",
        AlertDescription::UnrecognisedName => "unrecognized_name",
        AlertDescription::BadCertificateStatusResponse => "bad_certificate_status_response",
        AlertDescription::BadCertificateHashValue => "bad_certificate_hash_value",
        AlertDescription::UnknownPSKIdentity => "unknown_psk_identity",
        AlertDescription::CertificateRequired => "certificate_required",
        AlertDescription::NoApplicationProtocol => "no_application_protocol",
        AlertDescription::EncryptedClientHelloRequired => "ech_required",
        other => return format!("alert {}", u8::from(other)),
    };
    name.to_owned()
}

fn certificate_failure(error: &CertificateError) -> Failure {
    match error {
        CertificateError::UnknownIssuer => Failure::SslUnknownAuthority,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Failure::SslInvalidHostname
        }
        _ => Failure::SslInvalidCertificate,
    }
}

fn alert_failure(alert: AlertDescription) -> Failure {
    match alert {
        // A server can only mean the client's certificate, or that there was none.
        AlertDescription::CertificateRequired
        | AlertDescription::NoCertificate
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA => Failure::TlsClientCertificateRequired,
        // These have a meaning in handshakes alone.
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
    fn codes() {
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
    fn codes_of_a_server() {
        let received = |alert| server_failure(&Error::AlertReceived(alert));
        assert_eq!(received(AlertDescription::UnknownCA), Failure::SslUnknownAuthority);
        assert_eq!(received(AlertDescription::CertificateExpired), Failure::SslInvalidCertificate);
        assert_eq!(received(AlertDescription::HandshakeFailure), Failure::SslFailedHandshake);
        assert_eq!(server_failure(&Error::NoCertificatesPresented), Failure::TlsClientCertificateRequired);
    }

    #[test]
    fn names_of_alerts() {
        assert_eq!(alert_name(AlertDescription::from(48)), "unknown_ca");
        assert_eq!(alert_name(AlertDescription::from(116)), "certificate_required");
        assert_eq!(alert_name(AlertDescription::from(200)), "alert 200");
    }
}
