use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::limits::{MAX_ERROR_BYTES, limit};
use super::{BoxedOrEmpty, Text};

/// Defines the codes once, for the enum, the way out and the way in.
macro_rules! failures {
    ($( $(#[$meta:meta])* $variant:ident = $code:literal, )+) => {
        /// A stable code for what went wrong, beside the text of the error.
        ///
        /// The vocabulary is OONI's (data format df-007, "Errors"). Codes that OONI has no word for begin
        /// with `x_`; an error that fits no code is `unknown_failure: <text>`. A code read from a trace that
        /// this version does not know is kept as it came.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Failure {
            $( $(#[$meta])* $variant, )+
            /// What fits no other code: see [`Failure::unknown`].
            Unknown(UnknownFailure),
        }

        impl Failure {
            /// Every failure that has a code of its own, in the order of their definition.
            pub const KNOWN: &[Failure] = &[$( Failure::$variant, )+];

            /// The code as text, such as `connection_refused`.
            pub fn as_str(&self) -> &str {
                match self {
                    $( Failure::$variant => $code, )+
                    Failure::Unknown(unknown) => &unknown.0,
                }
            }
        }

        impl From<&str> for Failure {
            /// Never fails: a code that is not known is kept as it is.
            fn from(code: &str) -> Self {
                match code {
                    $( $code => Failure::$variant, )+
                    other => Failure::Unknown(UnknownFailure(other.into())),
                }
            }
        }
    };
}

failures! {
    /// The peer's host has nobody listening on that port (`ECONNREFUSED`).
    ConnectionRefused = "connection_refused",
    /// The peer cut the connection off (`ECONNRESET`).
    ConnectionReset = "connection_reset",
    /// The connection was aborted on this side (`ECONNABORTED`).
    ConnectionAborted = "connection_aborted",
    /// The connection had been closed before, on this side (`ESHUTDOWN`).
    ConnectionAlreadyClosed = "connection_already_closed",
    /// No route leads to the host (`EHOSTUNREACH`).
    HostUnreachable = "host_unreachable",
    /// No route leads to the network (`ENETUNREACH`).
    NetworkUnreachable = "network_unreachable",
    /// The network interface is down (`ENETDOWN`).
    NetworkDown = "network_down",
    /// The network dropped the connection (`ENETRESET`).
    NetworkReset = "network_reset",
    /// A timer of ours expired.
    GenericTimeoutError = "generic_timeout_error",
    /// The stream ended where more was expected.
    EofError = "eof_error",
    /// The operation was dropped before it was done.
    Interrupted = "interrupted",

    /// The name does not exist (NXDOMAIN, RFC 1035 section 4.1.1).
    DnsNxdomainError = "dns_nxdomain_error",
    /// The nameserver failed (SERVFAIL).
    DnsServfailError = "dns_servfail_error",
    /// The nameserver refused (REFUSED).
    DnsRefusedError = "dns_refused_error",
    /// The nameserver answered with another error (FORMERR, NOTIMP and the rest).
    DnsServerMisbehaving = "dns_server_misbehaving",
    /// The name exists, but has no address.
    DnsNoAnswer = "dns_no_answer",
    /// The look-up failed and would fail again (`EAI_FAIL`).
    DnsNonRecoverableFailure = "dns_non_recoverable_failure",
    /// The look-up failed but may succeed later (`EAI_AGAIN`).
    DnsTemporaryFailure = "dns_temporary_failure",

    /// The certificate leads to no root that is trusted.
    SslUnknownAuthority = "ssl_unknown_authority",
    /// The certificate is not for that name.
    SslInvalidHostname = "ssl_invalid_hostname",
    /// The certificate is not acceptable otherwise: expired, not yet valid, revoked, malformed.
    SslInvalidCertificate = "ssl_invalid_certificate",
    /// The handshake failed otherwise.
    SslFailedHandshake = "ssl_failed_handshake",

    /// The kernel gave up waiting for the peer (`ETIMEDOUT`).
    TimedOut = "x_timed_out",
    /// The address family is not available (`EAFNOSUPPORT`).
    AddressFamilyNotSupported = "x_address_family_not_supported",
    /// The local address is already in use (`EADDRINUSE`).
    AddressInUse = "x_address_in_use",
    /// The local address is not one of this host (`EADDRNOTAVAIL`).
    AddressNotAvailable = "x_address_not_available",
    /// The operation is not permitted (`EACCES`, `EPERM`).
    PermissionDenied = "x_permission_denied",
    /// An argument was not valid (`EINVAL`).
    InvalidArgument = "x_invalid_argument",
    /// The message is too long for the socket (`EMSGSIZE`).
    MessageSize = "x_message_size",
    /// The kernel has no buffer space (`ENOBUFS`).
    NoBufferSpace = "x_no_buffer_space",
    /// The socket is not connected (`ENOTCONN`).
    NotConnected = "x_not_connected",
    /// The peer does not speak TLS.
    TlsNotTls = "x_tls_not_tls",
    /// The peer ended the session with an alert.
    TlsAlert = "x_tls_alert",
    /// The peer demands a client certificate, or rejects the one it was shown; of an accepted connection, the peer
    /// has shown none.
    TlsClientCertificateRequired = "x_tls_client_certificate_required",
    /// This machine has no trusted root certificates.
    NoRootCertificates = "x_no_root_certificates",
    /// The TLS configuration cannot be used: its versions, certificate or key.
    TlsConfiguration = "x_tls_configuration",
    /// Every nameserver was skipped by the configuration.
    NameserversSkipped = "x_nameservers_skipped",
    /// A DNS message could not be read.
    DnsMalformed = "x_dns_malformed",
    /// The name is not one that DNS can carry.
    DnsInvalidName = "x_dns_invalid_name",
    /// The target's address could not be understood.
    InvalidTarget = "x_invalid_target",
    /// The proxy demands credentials, or rejects those that it was shown.
    ProxyAuthenticationRequired = "x_proxy_authentication_required",
    /// The proxy did not make the connection that it was asked for.
    ProxyRefused = "x_proxy_refused",
    /// The proxy broke the rules of SOCKS5 (RFC 1928), or does not speak it.
    SocksProtocolError = "x_socks_protocol_error",
    /// The peer broke the rules of HTTP.
    HttpProtocolError = "x_http_protocol_error",
    /// The stream was reset (RST_STREAM, RFC 9113 section 6.4).
    Http2StreamReset = "x_http2_stream_reset",
    /// The connection was given up (GOAWAY, RFC 9113 section 6.8).
    Http2Goaway = "x_http2_goaway",
    /// The body that was to be sent failed.
    RequestBodyError = "x_request_body_error",
    /// The body of the response that was to be sent failed.
    ResponseBodyError = "x_response_body_error",
    /// The service that was to answer panicked, or the body of its response.
    ServicePanicked = "x_service_panicked",
    /// The body that was received could not be decoded.
    DecodingError = "x_decoding_error",
    /// The future was polled outside a tokio runtime.
    NoRuntime = "x_no_runtime",
    /// The client had been closed.
    ClientClosed = "x_client_closed",
    /// More redirects than are followed.
    TooManyRedirects = "x_too_many_redirects",
    /// A redirect that cannot be followed: no or a broken `Location`, or a scheme that is not HTTP.
    InvalidRedirect = "x_invalid_redirect",
}

/// A code that stands for no [`Failure`] of this version. Made by [`Failure::unknown`], or read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnknownFailure(BoxedOrEmpty<Text>);

impl UnknownFailure {
    /// The text after `unknown_failure: `, or the whole of a code that this version does not know.
    pub fn text(&self) -> &str {
        self.0.strip_prefix(UNKNOWN).unwrap_or(&self.0)
    }
}

impl Failure {
    /// An error that fits no code: `unknown_failure: <text>`. Of a text of more than a kibibyte the beginning is
    /// kept, with `…` after it.
    pub fn unknown(text: impl fmt::Display) -> Self {
        let code = limit(format!("{UNKNOWN}{text}"), UNKNOWN.len() + MAX_ERROR_BYTES);
        Failure::Unknown(UnknownFailure(code.into()))
    }

    /// The heap memory that it takes.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Failure::Unknown(unknown) => size_of::<Text>() + unknown.0.len(),
            _ => 0,
        }
    }

    /// Whether a timer expired, ours or the kernel's.
    pub fn is_timeout(&self) -> bool {
        match self {
            Failure::GenericTimeoutError | Failure::TimedOut => true,
            // In OONI's measurements, and in traces of earlier versions.
            Failure::Unknown(UnknownFailure(code)) => &**code == "timed_out",
            _ => false,
        }
    }
}

const UNKNOWN: &str = "unknown_failure: ";

impl FromStr for Failure {
    type Err = Infallible;

    fn from_str(code: &str) -> Result<Self, Infallible> {
        Ok(Failure::from(code))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Failure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(super::open_enum::NameVisitor::new("failure"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive() {
        let own = ["unknown_failure: some \"text\"", "ssl_new_word", "x_mine", ""];
        for code in Failure::KNOWN.iter().map(Failure::as_str).chain(own) {
            let failure: Failure = serde_json::from_value(code.into()).unwrap();
            assert_eq!(serde_json::to_value(&failure).unwrap(), code);
            assert_eq!(failure, code.parse().unwrap());
            assert_eq!(matches!(failure, Failure::Unknown(_)), own.contains(&code), "{code}");
        }
    }

    /// The codes of df-007, without the legacy ones.
    const OONI: [&str; 31] = [
        "android_dns_cache_no_data",
        "connection_aborted",
        "connection_already_closed",
        "connection_refused",
        "connection_reset",
        "dns_bogon_error",
        "dns_no_answer",
        "dns_non_recoverable_failure",
        "dns_nxdomain_error",
        "dns_reply_with_wrong_query_id",
        "dns_refused_error",
        "dns_server_misbehaving",
        "dns_servfail_error",
        "dns_temporary_failure",
        "eof_error",
        "http_request_failed",
        "host_unreachable",
        "generic_timeout_error",
        "http_unexpected_redirect_url",
        "http_unexpected_status_code",
        "interrupted",
        "json_parse_error",
        "network_down",
        "network_reset",
        "network_unreachable",
        "quic_incompatible_version",
        "ssl_failed_handshake",
        "ssl_invalid_hostname",
        "ssl_unknown_authority",
        "ssl_invalid_certificate",
        "unknown_failure",
    ];

    #[test]
    fn what_is_not_oonis_begins_with_x() {
        for code in Failure::KNOWN.iter().map(Failure::as_str) {
            assert_ne!(OONI.contains(&code), code.starts_with("x_"), "{code}");
        }
    }

    /// Earlier versions wrote codes without the `x_` that OONI's specification does not have.
    #[test]
    fn earlier_codes_are_read_and_written_as_they_were() {
        let codes = ["timed_out", "not_connected", "address_in_use", "permission_denied", "invalid_argument"];
        for code in codes {
            let failure: Failure = serde_json::from_value(code.into()).unwrap();
            assert_eq!(serde_json::to_value(&failure).unwrap(), code);
            assert_eq!(failure.is_timeout(), code == "timed_out");
        }
    }

    #[test]
    fn codes_are_unique_and_well_formed() {
        let mut codes: Vec<_> = Failure::KNOWN.iter().map(Failure::as_str).collect();
        assert!(codes.iter().all(|code| code.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))));
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Failure::KNOWN.len());
    }

    #[test]
    fn the_unknown_says_what_it_is() {
        let failure = Failure::unknown("odd thing");
        assert_eq!(failure.as_str(), "unknown_failure: odd thing");
        let Failure::Unknown(unknown) = &failure else { panic!("{failure:?}") };
        assert_eq!(unknown.text(), "odd thing");
        assert_eq!(Failure::from(failure.as_str()), failure);
    }
}
