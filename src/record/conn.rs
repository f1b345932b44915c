//! Records of TCP connections, SOCKS handshakes and UDP sockets.

use serde::{Deserialize, Serialize};

use super::serde_helpers::is_default;
use super::trace_list::{HasParent, Record};
use super::{
    AddrTuple, BoxedOrEmpty, ConntrackEntry, EndReason, Failure, IcmpError, KernelTimes, SocketTrace,
    TcpInfo, Text, Timestamp, TraceId, TruncatedFields, WireTrace,
};

/// A TCP connection, established or only attempted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct TcpConnTrace {
    /// The identifier of the connection.
    #[serde(rename = "traceID")]
    pub trace_id: TraceId,
    /// The dial that made the connection.
    pub from_dial: TraceId,
    /// Whether the resolver made the connection, to a nameserver, during the lookup of the dial. Connections over TLS
    /// and HTTPS are shared by lookups, and have a dial of their own instead.
    #[serde(skip_serializing_if = "is_default")]
    pub from_resolver: bool,
    /// Whether the peer made the connection and this side accepted it. No dial led to it.
    #[serde(skip_serializing_if = "is_default")]
    pub accepted: bool,
    /// When the handshake began, with the SYN. For an accepted connection, when the program got it: the kernel has
    /// completed the handshake by then.
    pub handshake_begin_at: Timestamp,
    /// When the handshake ended, successfully or not.
    pub handshake_end_at: Timestamp,
    /// The text of this attempt's error, if the handshake failed.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub handshake_err: BoxedOrEmpty<Text>,
    /// Whether the handshake succeeded.
    pub connected: bool,
    /// When this side closed the connection.
    pub conn_close_at: Timestamp,
    /// The text of the error that broke the established connection.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub conn_err: BoxedOrEmpty<Text>,
    /// Why the handshake, or later the connection, failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// How the attempt or the connection ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,
    /// The local address (source) and the peer's (destination).
    pub addr_tuple: AddrTuple,
    /// The path of the socket, if this is a Unix socket and not TCP.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub unix_path: BoxedOrEmpty<Text>,
    /// `application` if the connection was observed above TLS. Sizes are then those of the plain text.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub layer: BoxedOrEmpty<Text>,
    /// Whether the connection was established before this trace began. Its earlier times are absolute.
    pub reused: bool,
    /// Bytes of TCP payload sent.
    pub total_sent_bytes: u64,
    /// Bytes of TCP payload received.
    pub total_recv_bytes: u64,
    /// Whether reads and writes were not observed, as in a client that does not expose its sockets. Both totals are
    /// then 0 and unknown.
    #[serde(skip_serializing_if = "is_default")]
    pub bytes_unobserved: bool,
    /// The SOCKS5 handshake, if the connection leads to a SOCKS5 proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socks: Option<Box<SocksTrace>>,
    /// The connection's entry in the kernel's connection tracking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<Box<ConntrackEntry>>,
    /// What the kernel reported about the connection, at several moments of its life.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub tcp_info: BoxedOrEmpty<Vec<TcpInfo>>,
    /// The kernel's time stamps of the connection's bytes; `None` if it was not sampled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_times: Option<Box<KernelTimes>>,
    /// The HTTP that was read from the connection's bytes; `None` if they are not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wire: Option<Box<WireTrace>>,
    /// The ICMP error that answered a failed handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_error: Option<Box<IcmpError>>,
    /// The reads and writes of the socket; `None` if they are not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket_trace: Option<SocketTrace>,
    /// The fields that were cut because they exceeded their limit, with their original sizes.
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
    /// Returns `true` if the totals are unknown. Traces of older versions show that by `end_reason` only.
    pub(crate) fn is_traffic_unobserved(&self) -> bool {
        let is_nothing_counted = self.total_sent_bytes == 0 && self.total_recv_bytes == 0;
        is_nothing_counted && (self.bytes_unobserved || self.end_reason == Some(EndReason::Unobserved))
    }
}

/// A SOCKS5 handshake (RFC 1928): from the first byte of the greeting to the proxy's reply to the request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct SocksTrace {
    /// The target that the proxy was asked to connect to, as `host:port`. The host is an address if names are resolved
    /// on this side.
    pub target: Text,
    /// When the handshake began.
    pub handshake_begin_at: Timestamp,
    /// When the handshake ended, successfully or not.
    pub handshake_end_at: Timestamp,
    /// The text of the error, if the handshake failed.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub handshake_err: BoxedOrEmpty<Text>,
    /// Why the handshake failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// How the handshake ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,
    /// The fields that were cut because they exceeded their limit, with their original sizes.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub truncated_fields: BoxedOrEmpty<TruncatedFields>,
}

/// A UDP socket connected to one peer, and the datagrams exchanged with it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct UdpConnTrace {
    /// The identifier of the connection.
    #[serde(rename = "traceID")]
    pub trace_id: TraceId,
    /// The dial that the socket was opened for.
    pub from_dial: TraceId,
    /// Whether the resolver opened the socket, to a nameserver.
    #[serde(skip_serializing_if = "is_default")]
    pub from_resolver: bool,
    /// When the socket was created.
    pub socket_create_at: Timestamp,
    /// When this side closed the socket.
    pub conn_close_at: Timestamp,
    /// The text of the error that ended the exchange.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub conn_err: BoxedOrEmpty<Text>,
    /// Why the exchange failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// How the exchange ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_reason: Option<EndReason>,
    /// The local address (source) and the peer's (destination).
    pub addr_tuple: AddrTuple,
    /// Bytes of UDP payload sent.
    pub total_sent_bytes: u64,
    /// Bytes of UDP payload received.
    pub total_recv_bytes: u64,
    /// The exchange's entry in the kernel's connection tracking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<Box<ConntrackEntry>>,
    /// The reads and writes of the socket; `None` if they are not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket_trace: Option<SocketTrace>,
    /// The fields that were cut because they exceeded their limit, with their original sizes.
    #[serde(skip_serializing_if = "BoxedOrEmpty::is_empty")]
    pub truncated_fields: BoxedOrEmpty<TruncatedFields>,
}

impl Record for UdpConnTrace {
    fn trace_id(&self) -> &TraceId {
        &self.trace_id
    }
}
