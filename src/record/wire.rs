//! What was read of the HTTP on a connection.

use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;
use super::{BoxedOrEmpty, Text, Timestamp};

/// What was read of the HTTP on a connection whose bytes are read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct WireTrace {
    /// The protocol, as ALPN names it: `http/1.1` or `h2`. Empty if it was not found out.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub protocol: BoxedOrEmpty<Text>,
    /// When reading stopped, though the connection went on.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub stopped_at: Timestamp,
    /// Why reading stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<WireStop>,
}

open_enum! {
    /// Why the HTTP of a connection is not read any more, though the connection goes on.
    pub enum WireStop {
        /// The bytes are not HTTP, or a head of HTTP/1 cannot be parsed.
        #[default]
        NotHttp = "not-http",
        /// The bytes are TLS. What reads them has to be put above it.
        Tls = "tls",
        /// It is not defined where the body of a message ends (RFC 9112 section 6.3).
        BodyFraming = "body-framing",
        /// A header or trailer section takes more than 64 KiB.
        SectionTooLarge = "section-too-large",
        /// Too many requests are unanswered: 1,024 over HTTP/1, 4,096 over HTTP/2.
        TooManyRequests = "too-many-requests",
        /// A response came that no request had asked for.
        UnexpectedResponse = "unexpected-response",
        /// Another protocol has taken over, after a response 101 or to CONNECT.
        Upgraded = "upgraded",
        /// A frame of HTTP/2 is malformed.
        Http2Frame = "http2-frame",
        /// The compressed fields of HTTP/2 cannot be decoded (RFC 7541).
        HeaderCompression = "header-compression",
    }
}
