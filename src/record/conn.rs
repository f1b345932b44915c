use serde::{Deserialize, Serialize};

use super::serde_helpers::is_default;
use super::trace_list::{HasParent, Record};
use super::{
    AddrTuple, BoxedOrEmpty, ConntrackEntry, EndReason, Failure, IcmpError, SocketTrace, TcpInfo, Text,
    Timestamp, TraceId, TruncatedFields,
};

/// A TCP connection, established or only attempted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct TcpConnTrace {
    /// Identifies the connection.
    #[serde(rename = "traceID")]
    pub trace_id: TraceId,
    /// The dial that made the connection.
    pub from_dial: TraceId,
    /// Whether the resolver made the connection, to a nameserver.
    #[serde(skip_serializing_if = "is_default")]
    pub from_resolver: bool,
    /// Whether this side accepted the connection, which the peer made: no dial led to it.
    #[serde(skip_serializing_if = "is_default")]
    pub accepted: bool,
    /// When the handshake began: the SYN was sent. Of an accepted connection, when it was handed to the program:
    /// its handshake was the kernel's business, and over by then.
    pub handshake_begin_at: Timestamp,
    /// When the handshake ended, with a connection or without.
    pub handshake_end_at: Timestamp,
    /// The error of a handshake that failed, as text: this attempt's own.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub handshake_err: BoxedOrEmpty<Text>,
    /// Whether the handshake succeeded.
    pub connected: bool,
    /// When our side closed the connection.
    pub conn_close_at: Timestamp,
    /// The error that broke the established connection, as text.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub conn_err: BoxedOrEmpty<Text>,
    /// Why the handshake, or later the connection, failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// How the attempt or the connection ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,
    /// Our address (source) and the peer's (destination).
    pub addr_tuple: AddrTuple,
    /// The path of the socket, where this is in truth a Unix socket.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub unix_path: BoxedOrEmpty<Text>,
    /// `application` where the connection was seen above TLS: sizes are then those of the plain text.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub layer: BoxedOrEmpty<Text>,
    /// Whether the connection is older than this trace; its times before the trace are absolute.
    pub reused: bool,
    /// Bytes of TCP payload sent.
    pub total_sent_bytes: u64,
    /// Bytes of TCP payload received.
    pub total_recv_bytes: u64,
    /// Whether reads and writes were not observed, as in a client that keeps its sockets to itself: both totals are
    /// 0 then, and say nothing.
    #[serde(skip_serializing_if = "is_default")]
    pub bytes_unobserved: bool,
    /// The handshake with a SOCKS5 proxy, which the connection leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socks: Option<Box<SocksTrace>>,
    /// What the kernel's connection tracking knows of the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<Box<ConntrackEntry>>,
    /// What the kernel knew of the connection, at several moments of its life.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub tcp_info: BoxedOrEmpty<Vec<TcpInfo>>,
    /// The ICMP error with which the network answered a handshake that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_error: Option<Box<IcmpError>>,
    /// Reads and writes of the socket; `None` when they are not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket_trace: Option<SocketTrace>,
    /// Fields that were cut because they were over their limit, with their original sizes.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub truncated_fields: BoxedOrEmpty<TruncatedFields>,
}

impl Record for TcpConnTrace {
    fn trace_id(&self) -> &TraceId {
        &self.trace_id
    }
}

impl HasParent for TcpConnTrace {
    fn parent(&self) -> &TraceId {
        &self.from_dial
    }
}

impl TcpConnTrace {
    /// Returns `true` if the totals say nothing. Traces of older versions have no other sign of that than the end.
    pub(crate) fn is_traffic_unobserved(&self) -> bool {
        let is_nothing_counted = self.total_sent_bytes == 0 && self.total_recv_bytes == 0;
        is_nothing_counted && (self.bytes_unobserved || self.end_reason == Some(EndReason::Unobserved))
    }
}

/// A handshake with a SOCKS5 proxy (RFC 1928): from the first byte of the greeting until the proxy has said
/// whether it reached the target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct SocksTrace {
    /// What the proxy was asked to connect to, as `host:port`. The host is an address where names are looked up on
    /// this side.
    pub target: Text,
    /// When the handshake began.
    pub handshake_begin_at: Timestamp,
    /// When the handshake ended, with a way to the target or without.
    pub handshake_end_at: Timestamp,
    /// The error of a handshake that failed, as text.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub handshake_err: BoxedOrEmpty<Text>,
    /// Why the handshake failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// How the handshake ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,
    /// Fields that were cut because they were over their limit, with their original sizes.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub truncated_fields: BoxedOrEmpty<TruncatedFields>,
}

/// A UDP socket connected to one peer, and the datagrams exchanged with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct UdpConnTrace {
    /// Identifies the connection.
    #[serde(rename = "traceID")]
    pub trace_id: TraceId,
    /// The dial for whose sake the socket was opened.
    pub from_dial: TraceId,
    /// Whether the resolver opened the socket, to a nameserver.
    #[serde(skip_serializing_if = "is_default")]
    pub from_resolver: bool,
    /// When the socket was created.
    pub socket_create_at: Timestamp,
    /// When our side closed the socket.
    pub conn_close_at: Timestamp,
    /// The error that ended the exchange, as text.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub conn_err: BoxedOrEmpty<Text>,
    /// Why the exchange failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// How the exchange ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,
    /// Our address (source) and the peer's (destination).
    pub addr_tuple: AddrTuple,
    /// Bytes of UDP payload sent.
    pub total_sent_bytes: u64,
    /// Bytes of UDP payload received.
    pub total_recv_bytes: u64,
    /// What the kernel's connection tracking knows of the exchange.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<Box<ConntrackEntry>>,
    /// Reads and writes of the socket; `None` when they are not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket_trace: Option<SocketTrace>,
    /// Fields that were cut because they were over their limit, with their original sizes.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub truncated_fields: BoxedOrEmpty<TruncatedFields>,
}

impl Record for UdpConnTrace {
    fn trace_id(&self) -> &TraceId {
        &self.trace_id
    }
}
