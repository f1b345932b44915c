//! Readable texts of the errors of rustls.
//!
//! rustls prints many of its errors as the names of Rust enum variants (`invalid peer certificate: UnknownIssuer`). The
//! functions here turn them into sentences, and add what the variant carries, such as the names of the certificate.

use std::{error, fmt};

use rustls::{CertificateError, Error, InvalidMessage, PeerIncompatible, pki_types::UnixTime};

use super::{alert_name::alert_name, find_rustls_error, is_ca_as_end_entity};
use crate::record::Timestamp;

/// Returns the readable text of an error that is or contains one of rustls, or `None` for others.
pub(crate) fn text(error: &(dyn error::Error + 'static)) -> Option<String> {
    find_rustls_error(error).map(rustls_text).or_else(|| alert_text(&error.to_string()))
}

/// Returns the meaning of an error as a sentence.
pub(super) fn rustls_text(error: &Error) -> String {
    match error {
        Error::InappropriateMessage { expect_types, got_type } => {
            format!(
                "received unexpected message: got {} when expecting {}",
                variant_words(got_type),
                joined_variants(expect_types)
            )
        }
        Error::InappropriateHandshakeMessage { expect_types, got_type } => {
            let (got, expected) = (variant_words(got_type), joined_variants(expect_types));
            format!("received unexpected handshake message: got {got} when expecting {expected}")
        }
        Error::InvalidMessage(why) => format!("received corrupt message: {}", invalid_message(why)),
        Error::PeerIncompatible(why) => format!("peer is incompatible: {}", incompatible(why)),
        Error::PeerMisbehaved(why) => format!("peer misbehaved: {}", variant_words(why)),
        Error::AlertReceived(alert) => format!("received fatal alert: {}", alert_name(*alert)),
        Error::InvalidCertificate(error) => format!("invalid peer certificate: {}", certificate_text(error)),
        Error::InvalidCertRevocationList(why) => {
            format!("invalid certificate revocation list: {}", variant_words(why))
        }
        Error::InvalidEncryptedClientHello(why) => {
            format!("encrypted client hello failure: {}", variant_words(why))
        }
        Error::InconsistentKeys(why) => {
            format!("certificate and private key do not fit: {}", variant_words(why))
        }
        other => other.to_string(),
    }
}

/// Returns the readable text of an alert that was reported through h2, which keeps only rustls' own text of an I/O
/// error.
fn alert_text(text: &str) -> Option<String> {
    const PREFIX: &str = "received fatal alert: ";
    let name = text.strip_prefix(PREFIX)?;
    // The name of a variant, as in rustls' own text.
    Some(format!("{PREFIX}{}", variant_words(format_args!("{name}")).replace(' ', "_")))
}

fn certificate_text(error: &CertificateError) -> String {
    let text = match error {
        CertificateError::BadEncoding => "it is malformed",
        CertificateError::Expired => "certificate expired",
        CertificateError::NotValidYet => "certificate not valid yet",
        CertificateError::Revoked => "it has been revoked",
        CertificateError::UnhandledCriticalExtension => "it has a critical extension that is not supported",
        CertificateError::UnknownIssuer => "not signed by a trusted authority",
        CertificateError::BadSignature => "bad signature",
        CertificateError::NotValidForName => "not valid for the server's name",
        CertificateError::InvalidPurpose => "not meant for this purpose",
        CertificateError::ApplicationVerificationFailure => "refused by the application",
        CertificateError::ExpiredContext { not_after, .. } => {
            return format!("certificate expired: it was valid until {}", time(not_after));
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            return format!("certificate not valid yet: it is valid from {}", time(not_before));
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let only = host_names(presented)
                .map_or_else(|| "it names no host".to_owned(), |names| format!("only for {names}"));
            return format!("certificate not valid for name {:?}, {only}", expected.to_str());
        }
        CertificateError::ExpiredRevocationListContext { .. }
        | CertificateError::InvalidPurposeContext { .. } => return error.to_string(),
        CertificateError::Other(_) if is_ca_as_end_entity(error) => {
            "it is a certificate authority's own (CA:TRUE), as self-signed ones often are"
        }
        CertificateError::Other(other) => {
            let text = other.to_string();
            // The text of webpki's errors is the name of their variant.
            return if text == format!("{:?}", other.0) { variant_words(&other.0) } else { text };
        }
        other => return variant_words(other),
    };
    text.to_owned()
}

fn time(time: &UnixTime) -> Timestamp {
    Timestamp::from_unix_nanos(i128::from(time.as_secs()) * 1_000_000_000)
}

/// Returns the host names of a certificate, or the first few of them. Returns `None` if it has none. webpki formats
/// them for debugging: `DnsName("web.test")`.
fn host_names(presented: &[String]) -> Option<String> {
    const MAX_NAMES: usize = 8;
    let names = presented.iter().filter_map(|name| match name.split_once('(') {
        Some(("DnsName" | "IpAddress" | "UniformResourceIdentifier", name)) => {
            Some(name.strip_suffix(')').unwrap_or(name).trim_matches('"'))
        }
        Some(("Unsupported", _)) => None,
        _ if name == "DirectoryName" => None,
        _ => Some(name),
    });
    let mut names: Vec<_> = names.take(MAX_NAMES).collect();
    let more = format!("{} more", presented.len().saturating_sub(MAX_NAMES));
    if presented.len() > MAX_NAMES {
        names.push(&more);
    }
    match names.as_slice() {
        [] => None,
        [one] => Some((*one).to_owned()),
        [some @ .., last] => Some(format!("{} and {last}", some.join(", "))),
    }
}

fn invalid_message(why: &InvalidMessage) -> String {
    match why {
        InvalidMessage::InvalidContentType => "unknown content type".to_owned(),
        InvalidMessage::MissingData(what) => format!("missing data for {what}"),
        InvalidMessage::TrailingData(what) => format!("trailing data after {what}"),
        InvalidMessage::UnexpectedMessage(what) => format!("unexpected message {what}"),
        InvalidMessage::IllegalEmptyList(what) => format!("empty list of {what}"),
        InvalidMessage::DuplicateExtension(number) => format!("extension {number} is repeated"),
        other => variant_words(other),
    }
}

fn incompatible(why: &PeerIncompatible) -> String {
    let text = match why {
        PeerIncompatible::ServerDoesNotSupportTls12Or13 => "the server speaks neither TLS 1.2 nor TLS 1.3",
        PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            "the server chose a TLS version that is disabled here"
        }
        PeerIncompatible::Tls12NotOffered => "TLS 1.2 was not offered",
        PeerIncompatible::Tls12NotOfferedOrEnabled => "TLS 1.2 was not offered, or is disabled",
        PeerIncompatible::Tls13RequiredForQuic => "TLS 1.3 is required for QUIC",
        PeerIncompatible::NoKxGroupsInCommon => "no key exchange groups in common",
        other => return variant_words(other),
    };
    text.to_owned()
}

fn joined_variants(all: &[impl fmt::Debug]) -> String {
    all.iter().map(variant_words).collect::<Vec<_>>().join(" or ")
}

/// Converts the name of an enum variant into words, without its fields: `NoCipherSuitesInCommon` becomes `no cipher
/// suites in common`.
fn variant_words(variant: impl fmt::Debug) -> String {
    let name = format!("{variant:?}");
    let name = name.split(|letter: char| !letter.is_ascii_alphanumeric()).next().unwrap_or_default();
    let letters = name.as_bytes();
    let mut words = String::with_capacity(name.len() + 8);
    for (index, letter) in name.char_indices().filter(|(_, letter)| letter.is_ascii()) {
        let follows_small = index > 0 && !letters[index - 1].is_ascii_uppercase();
        let precedes_small = index > 0 && letters.get(index + 1).is_some_and(u8::is_ascii_lowercase);
        if letter.is_ascii_uppercase() && (follows_small || precedes_small) {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::AlertDescription;

    use super::*;

    #[test]
    fn texts_are_readable() {
        let invalid = |error| rustls_text(&Error::InvalidCertificate(error));
        let other = |error: &'static str| CertificateError::Other(rustls::OtherError(Arc::new(Other(error))));
        let texts = [
            (
                invalid(CertificateError::UnknownIssuer),
                "invalid peer certificate: not signed by a trusted authority",
            ),
            (
                invalid(CertificateError::InvalidOcspResponse),
                "invalid peer certificate: invalid ocsp response",
            ),
            (invalid(other("UnsupportedCertVersion")), "invalid peer certificate: unsupported cert version"),
            (invalid(other("TrailingData(Certificate)")), "invalid peer certificate: trailing data"),
            (
                invalid(other("CaUsedAsEndEntity")),
                "invalid peer certificate: it is a certificate authority's own (CA:TRUE), as self-signed ones often are",
            ),
            (
                rustls_text(&Error::AlertReceived(AlertDescription::UnknownCA)),
                "received fatal alert: unknown_ca",
            ),
            (
                rustls_text(&InvalidMessage::MissingData("ServerHello").into()),
                "received corrupt message: missing data for ServerHello",
            ),
            (
                rustls_text(&PeerIncompatible::NoCipherSuitesInCommon.into()),
                "peer is incompatible: no cipher suites in common",
            ),
            (
                rustls_text(&rustls::PeerMisbehaved::UnsolicitedEncryptedExtension.into()),
                "peer misbehaved: unsolicited encrypted extension",
            ),
            (
                rustls_text(&Error::InappropriateMessage {
                    expect_types: vec![rustls::ContentType::Handshake, rustls::ContentType::ApplicationData],
                    got_type: rustls::ContentType::Unknown(9),
                }),
                "received unexpected message: got content type when expecting handshake or application data",
            ),
            (
                rustls_text(&rustls::InconsistentKeys::KeyMismatch.into()),
                "certificate and private key do not fit: key mismatch",
            ),
            (rustls_text(&Error::DecryptError), "cannot decrypt peer's message"),
            (
                invalid(not_valid_for(&["DnsName(\"*.web.test\")", "IpAddress(192.0.2.1)", "DirectoryName"])),
                "invalid peer certificate: certificate not valid for name \"a.test\", only for *.web.test and 192.0.2.1",
            ),
            (
                invalid(not_valid_for(&[])),
                "invalid peer certificate: certificate not valid for name \"a.test\", it names no host",
            ),
            (
                invalid(not_valid_for(&["DnsName(\"a\")"; 20_000])),
                "invalid peer certificate: certificate not valid for name \"a.test\", only for a, a, a, a, a, a, a, a and 19992 more",
            ),
            (
                invalid(CertificateError::ExpiredContext {
                    time: at(1_000_000_000),
                    not_after: at(978_307_200),
                }),
                "invalid peer certificate: certificate expired: it was valid until 2001-01-01T00:00:00Z",
            ),
            (
                alert_text(&Error::AlertReceived(AlertDescription::UnknownCA).to_string()).unwrap(),
                "received fatal alert: unknown_ca",
            ),
        ];
        for (text, expected) in texts {
            assert_eq!(text, expected);
        }
        assert_eq!(
            invalid(CertificateError::Other(rustls::OtherError(Arc::new(Own)))),
            "invalid peer certificate: Not today"
        );
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
    }

    fn not_valid_for(presented: &[&str]) -> CertificateError {
        let expected = "a.test".try_into().unwrap();
        let presented = presented.iter().map(ToString::to_string).collect();
        CertificateError::NotValidForNameContext { expected, presented }
    }

    /// An error like webpki's: its text is its debug format.
    struct Other(&'static str);

    impl fmt::Debug for Other {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl fmt::Display for Other {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl error::Error for Other {}

    /// The error of a user's verifier.
    #[derive(Debug)]
    struct Own;

    impl fmt::Display for Own {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Not today")
        }
    }

    impl error::Error for Own {}
}
