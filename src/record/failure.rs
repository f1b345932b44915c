//! Stable codes for failures.
//!
//! Programs compare codes, since error texts differ between platforms and versions. The codes are those of OONI, a
//! project that measures network interference and has published its vocabulary.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::limits::{MAX_ERROR_BYTES, limit};
use super::{BoxedOrEmpty, Text};

/// Defines the enum, its conversion to a code and its conversion from a code from one list.
macro_rules! failures {
    ($( $(#[$meta:meta])* $variant:ident = $code:literal, )+) => {
        /// A stable code for the cause of a failure, recorded next to the text of the error.
        ///
        /// The codes are OONI's (data format df-007, "Errors"). Codes that OONI does not have begin with `x_`. An error
        /// that fits no code becomes `unknown_failure: <text>`. A code that this version does not know is kept as it
        /// was read.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Failure {
            $( $(#[$meta])* $variant, )+
            /// An error that fits no other code. See [`Failure::unknown`].
            Unknown(UnknownFailure),
        }

        impl Failure {
            /// All failures with a code of their own, in the order of their definition.
            pub const KNOWN: &[Failure] = &[$( Failure::$variant, )+];

            /// Returns the code as text, such as `connection_refused`.
            pub fn as_str(&self) -> &str {
                match self {
                    $( Failure::$variant => $code, )+
                    Failure::Unknown(unknown) => &unknown.0,
                }
            }
        }

        impl From<&str> for Failure {
            /// Converts a code. An unknown one is kept as it is.
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
    /// No process listens on that port of the peer (`ECONNREFUSED`).
    ConnectionRefused = "connection_refused",
    /// The peer reset the connection (`ECONNRESET`).
    ConnectionReset = "connection_reset",
    /// The local kernel aborted the connection (`ECONNABORTED`).
    ConnectionAborted = "connection_aborted",
    /// The connection was already closed locally (`ESHUTDOWN`).
    ConnectionAlreadyClosed = "connection_already_closed",
    /// There is no route to the host (`EHOSTUNREACH`).
    HostUnreachable = "host_unreachable",
    /// There is no route to the network (`ENETUNREACH`).
    NetworkUnreachable = "network_unreachable",
    /// The network interface is down (`ENETDOWN`).
    NetworkDown = "network_down",
    /// The network dropped the connection (`ENETRESET`).
    NetworkReset = "network_reset",
    /// A timeout of the client expired. See [`TimedOut`](Failure::TimedOut) for the kernel's.
    GenericTimeoutError = "generic_timeout_error",
    /// The stream ended where more data was expected.
    EofError = "eof_error",
    /// The operation was cancelled: its future was dropped.
    Interrupted = "interrupted",

    /// The name does not exist (NXDOMAIN, RFC 1035 section 4.1.1).
    DnsNxdomainError = "dns_nxdomain_error",
    /// The nameserver reported a failure of its own (SERVFAIL).
    DnsServfailError = "dns_servfail_error",
    /// The nameserver refused the query (REFUSED).
    DnsRefusedError = "dns_refused_error",
    /// The nameserver answered with another error code (FORMERR, NOTIMP and others).
    DnsServerMisbehaving = "dns_server_misbehaving",
    /// The name exists but has no address.
    DnsNoAnswer = "dns_no_answer",
    /// The lookup failed permanently (`EAI_FAIL`).
    DnsNonRecoverableFailure = "dns_non_recoverable_failure",
    /// The lookup failed temporarily (`EAI_AGAIN`).
    DnsTemporaryFailure = "dns_temporary_failure",

    /// The certificate chain does not end at a trusted root.
    SslUnknownAuthority = "ssl_unknown_authority",
    /// The certificate is not valid for the name of the server.
    SslInvalidHostname = "ssl_invalid_hostname",
    /// The certificate is invalid for another reason: expired, not yet valid, revoked or malformed.
    SslInvalidCertificate = "ssl_invalid_certificate",
    /// The handshake failed for another reason.
    SslFailedHandshake = "ssl_failed_handshake",

    /// The kernel stopped waiting for the peer (`ETIMEDOUT`).
    TimedOut = "x_timed_out",
    /// The address family is not available (`EAFNOSUPPORT`).
    AddressFamilyNotSupported = "x_address_family_not_supported",
    /// The local address is already in use (`EADDRINUSE`).
    AddressInUse = "x_address_in_use",
    /// The local address does not belong to this host (`EADDRNOTAVAIL`).
    AddressNotAvailable = "x_address_not_available",
    /// The operation is not permitted (`EACCES`, `EPERM`).
    PermissionDenied = "x_permission_denied",
    /// An argument is invalid (`EINVAL`).
    InvalidArgument = "x_invalid_argument",
    /// The message is too long for the socket (`EMSGSIZE`).
    MessageSize = "x_message_size",
    /// The kernel has no buffer space (`ENOBUFS`).
    NoBufferSpace = "x_no_buffer_space",
    /// The socket is not connected (`ENOTCONN`).
    NotConnected = "x_not_connected",
    /// The peer does not speak TLS: its first bytes are no TLS record.
    TlsNotTls = "x_tls_not_tls",
    /// The peer ended the session with an alert.
    TlsAlert = "x_tls_alert",
    /// The server requires a client certificate or rejects the one it was sent. On an accepted connection: the client
    /// sent none.
    TlsClientCertificateRequired = "x_tls_client_certificate_required",
    /// This machine has no trusted root certificates.
    NoRootCertificates = "x_no_root_certificates",
    /// The TLS configuration is unusable: its versions, certificate or key.
    TlsConfiguration = "x_tls_configuration",
    /// All configured nameservers were skipped.
    NameserversSkipped = "x_nameservers_skipped",
    /// The name of a nameserver has no address, or could not be looked up.
    NameserverUnresolved = "x_nameserver_unresolved",
    /// The nameserver answered a query over HTTPS with a status other than success.
    DnsHttpStatus = "x_dns_http_status",
    /// The nameserver's answer over HTTPS is not of the type `application/dns-message` (RFC 8484 section 6).
    DnsHttpContentType = "x_dns_http_content_type",
    /// A DNS message is malformed.
    DnsMalformed = "x_dns_malformed",
    /// The name cannot be encoded in a DNS message.
    DnsInvalidName = "x_dns_invalid_name",
    /// The address of the target cannot be parsed.
    InvalidTarget = "x_invalid_target",
    /// The proxy requires credentials or rejects those it was sent.
    ProxyAuthenticationRequired = "x_proxy_authentication_required",
    /// The proxy refused to connect, or could not connect, to the target.
    ProxyRefused = "x_proxy_refused",
    /// The proxy violated SOCKS5 (RFC 1928) or does not speak it.
    SocksProtocolError = "x_socks_protocol_error",
    /// The peer violated HTTP.
    HttpProtocolError = "x_http_protocol_error",
    /// The peer reset the HTTP/2 stream (RST_STREAM, RFC 9113 section 6.4).
    Http2StreamReset = "x_http2_stream_reset",
    /// The peer shut the HTTP/2 connection down (GOAWAY, RFC 9113 section 6.8).
    Http2Goaway = "x_http2_goaway",
    /// The body of the request returned an error while it was sent.
    RequestBodyError = "x_request_body_error",
    /// The body of the response returned an error while it was sent, on the server.
    ResponseBodyError = "x_response_body_error",
    /// The service, or the body of its response, panicked.
    ServicePanicked = "x_service_panicked",
    /// The content encoding of the response body is broken.
    DecodingError = "x_decoding_error",
    /// A future was polled outside a tokio runtime.
    NoRuntime = "x_no_runtime",
    /// The client is closed.
    ClientClosed = "x_client_closed",
    /// The limit of redirects was exceeded.
    TooManyRedirects = "x_too_many_redirects",
    /// The redirect cannot be followed: `Location` is missing or invalid, or its scheme is not HTTP.
    InvalidRedirect = "x_invalid_redirect",
}

/// A code that is no [`Failure`] of this version: made by [`Failure::unknown`], or read from a trace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnknownFailure(BoxedOrEmpty<Text>);

impl UnknownFailure {
    /// Returns the text after `unknown_failure: `, or the whole code if it does not begin so.
    pub fn text(&self) -> &str {
        self.0.strip_prefix(UNKNOWN).unwrap_or(&self.0)
    }
}

impl Failure {
    /// Creates the code of an error that fits no other one: `unknown_failure: <text>`. A text of more than 1 KiB is cut
    /// and ends with `…`.
    pub fn unknown(text: impl fmt::Display) -> Self {
        let code = limit(format!("{UNKNOWN}{text}"), UNKNOWN.len() + MAX_ERROR_BYTES);
        Failure::Unknown(UnknownFailure(code.into()))
    }

    /// Returns the heap memory in use, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Failure::Unknown(unknown) => size_of::<Text>() + unknown.0.len(),
            _ => 0,
        }
    }

    /// Returns `true` if a timer expired, the client's or the kernel's.
    pub fn is_timeout(&self) -> bool {
        match self {
            Failure::GenericTimeoutError | Failure::TimedOut => true,
            // OONI's measurements and traces of earlier versions have it without `x_`.
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
    fn codes_survive_a_round_trip() {
        let own = ["unknown_failure: some \"text\"", "ssl_new_word", "x_mine", ""];
        for code in Failure::KNOWN.iter().map(Failure::as_str).chain(own) {
            let failure: Failure = serde_json::from_value(code.into()).unwrap();
            assert_eq!(serde_json::to_value(&failure).unwrap(), code);
            assert_eq!(failure, code.parse().unwrap());
            assert_eq!(matches!(failure, Failure::Unknown(_)), own.contains(&code), "{code}");
        }
    }

    /// The codes of OONI's specification df-007, without the legacy ones.
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
    fn codes_that_ooni_does_not_have_begin_with_x() {
        for code in Failure::KNOWN.iter().map(Failure::as_str) {
            assert_ne!(OONI.contains(&code), code.starts_with("x_"), "{code}");
        }
    }

    /// Earlier versions wrote some codes that OONI does not have without the prefix `x_`.
    #[test]
    fn codes_of_earlier_versions_survive_a_round_trip() {
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
    fn unknown_failures_contain_their_text() {
        let failure = Failure::unknown("odd thing");
        assert_eq!(failure.as_str(), "unknown_failure: odd thing");
        let Failure::Unknown(unknown) = &failure else { panic!("{failure:?}") };
        assert_eq!(unknown.text(), "odd thing");
        assert_eq!(Failure::from(failure.as_str()), failure);
    }
}
