//! Records of TLS tunnels, with the certificates of the peer.

use std::num::NonZeroU16;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::serde_helpers::{is_default, null_as_default};
use super::trace_list::{HasParent, Record};
use super::{BoxedOrEmpty, EndReason, Failure, Text, Timestamp, TraceId, TruncatedFields};

/// A TLS session over a TCP connection, established or only attempted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct TlsTunnelTrace {
    /// The identifier of the tunnel.
    #[serde(rename = "traceID")]
    pub trace_id: TraceId,
    /// The TCP connection that carries the tunnel.
    pub tcp_conn: TraceId,
    /// Whether this side is the server.
    #[serde(skip_serializing_if = "is_default")]
    pub accepted: bool,
    /// When the handshake began: when the client sent the ClientHello, or the server began to wait for it.
    pub handshake_begin_at: Timestamp,
    /// When the handshake ended, successfully or not.
    pub handshake_end_at: Timestamp,
    /// The text of the error, if the handshake failed.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub handshake_err: BoxedOrEmpty<Text>,
    /// The text of the error that broke the established tunnel.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub conn_err: BoxedOrEmpty<Text>,
    /// Why the handshake, or later the tunnel, failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The alert that ended the session, with its direction: `received certificate_required`, `sent unknown_ca` (names
    /// in RFC 8446 section 6).
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub alert: BoxedOrEmpty<Text>,
    /// When the tunnel was closed.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub close_at: Timestamp,
    /// How the attempt or the tunnel ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,
    /// Whether an earlier session was resumed.
    pub did_resume: bool,
    /// The peer's certificates in the order in which it sent them. Its own is the first.
    #[serde(deserialize_with = "null_as_default")]
    pub peer_certs: Arc<[PeerCert]>,
    /// The number of the negotiated cipher suite (IANA, "TLS Cipher Suites"); 0 if there is none.
    pub cipher_suite: u16,
    /// The negotiated version: `TLSv1.2` or `TLSv1.3`.
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub tls_version: Text,
    /// The key exchange group, by its name in IANA's "TLS Supported Groups".
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub key_exchange_group: Text,
    /// The application protocol chosen by ALPN, such as `h2`.
    #[serde(skip_serializing_if = "Text::is_empty")]
    pub negotiated_proto: Text,
    /// Whether this side, the client, offered HTTP/2 by ALPN (RFC 7301). `false` also if the offer was not seen.
    #[serde(skip_serializing_if = "is_default")]
    pub offered_http2: bool,
    /// The server name that the client sent (SNI, RFC 6066 section 3).
    pub server_name: Text,
    /// The length of the first ClientHello in bytes, with the header of the message (RFC 8446 section 4) and without that
    /// of the TLS record; 65,535 if it is longer. `None` if it was not seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_hello_len: Option<NonZeroU16>,
    /// Whether the server sent a HelloRetryRequest (RFC 8446 section 4.1.4), which costs another round trip: the client
    /// offered no key share of a group that the server takes, or was to prove its address. `false` also if the handshake
    /// was not seen.
    #[serde(skip_serializing_if = "is_default")]
    pub hello_retry_request: bool,
    /// The fields that were cut because they exceeded their limit, with their original sizes.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub truncated_fields: BoxedOrEmpty<TruncatedFields>,
}

impl Record for TlsTunnelTrace {
    fn trace_id(&self) -> &TraceId {
        &self.trace_id
    }
}

impl HasParent for TlsTunnelTrace {
    fn parent(&self) -> &TraceId {
        &self.tcp_conn
    }
}

#[cfg(feature = "tls")]
impl PeerCert {
    /// Returns the memory in use, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let names = self.sans.iter().map(String::capacity).sum::<usize>();
        let texts = self.subject.capacity() + self.issuer.capacity() + self.sha256.capacity();
        let truncated = if self.truncated_fields.is_empty() { 0 } else { TruncatedFields::BYTES };
        size_of::<PeerCert>() + self.sans.capacity() * size_of::<String>() + names + texts + truncated
    }
}

/// A summary of a peer's certificate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct PeerCert {
    /// The subject, as RFC 2253 text.
    pub subject: String,
    /// The issuer, as RFC 2253 text.
    pub issuer: String,
    /// The begin of the validity.
    pub not_before: Timestamp,
    /// The end of the validity.
    pub not_after: Timestamp,
    /// Whether it is the certificate of a certificate authority.
    #[serde(rename = "isCA")]
    pub is_ca: bool,
    /// The SHA-256 hash of the certificate (DER), in lower-case hexadecimal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// The names and addresses that it is valid for (Subject Alternative Names).
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub sans: Vec<String>,
    /// The fields that were cut because they exceeded their limit, with their original sizes.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub truncated_fields: BoxedOrEmpty<TruncatedFields>,
}
