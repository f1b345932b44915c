//! Records of HTTP that was read from the bytes of a connection.

use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;
use super::serde_helpers::{is_default, null_as_default};
use super::{BoxedOrEmpty, Text, Timestamp};

/// The HTTP that was read from the bytes of a connection.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct WireTrace {
    /// The protocol, as ALPN names it: `http/1.1` or `h2`. Empty if it was not found out.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub protocol: BoxedOrEmpty<Text>,
    /// The frames of both sides that concern an HTTP/2 connection as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http2: Option<Box<Http2Trace>>,
    /// When reading stopped, though the connection went on.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub stopped_at: Timestamp,
    /// Why reading stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<WireStop>,
}

/// The frames of both sides that concern an HTTP/2 connection as a whole (RFC 9113 section 6).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Http2Trace {
    /// The settings of the client. Absent values are the defaults of RFC 9113.
    #[serde(skip_serializing_if = "is_default")]
    pub client_settings: Http2Settings,
    /// The settings of the server.
    #[serde(skip_serializing_if = "is_default")]
    pub server_settings: Http2Settings,
    /// The number of streams that the client reset.
    #[serde(skip_serializing_if = "is_default")]
    pub client_resets: u64,
    /// The number of streams that the server reset.
    #[serde(skip_serializing_if = "is_default")]
    pub server_resets: u64,
    /// The number of PINGs of this side that were answered before the next one was sent.
    #[serde(skip_serializing_if = "is_default")]
    pub pings: u64,
    /// The shortest time in microseconds until a PING of this side was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_ping_us: Option<u64>,
    /// The longest time in microseconds until a PING of this side was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ping_us: Option<u64>,
    /// The GOAWAY frames, in order: the first eight.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub go_aways: BoxedOrEmpty<Vec<GoAway>>,
}

/// The values of SETTINGS (RFC 9113 section 6.5.2), the last ones that were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Http2Settings {
    /// The maximum size of the HPACK table in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_table_size: Option<u32>,
    /// The maximum number of streams that the other side may have open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrent_streams: Option<u32>,
    /// The number of bytes that the other side may send on a new stream before a WINDOW_UPDATE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_window_size: Option<u32>,
    /// The maximum size of a frame's payload in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_frame_size: Option<u32>,
    /// The advised maximum size of an uncompressed header section in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_header_list_size: Option<u32>,
}

/// A GOAWAY frame: its sender shuts the connection down (RFC 9113 section 6.8).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct GoAway {
    /// When it passed.
    pub at: Timestamp,
    /// Whether the server sent it, and not the client.
    pub by_server: bool,
    /// The last stream that its sender may have processed.
    #[serde(rename = "lastStreamID")]
    pub last_stream_id: u32,
    /// The error code, as [`HttpReqTrace::http2_error`](crate::record::HttpReqTrace::http2_error) has it.
    pub error: Text,
    /// The debug data as text, at most 256 bytes of it.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub debug_data: BoxedOrEmpty<Text>,
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
