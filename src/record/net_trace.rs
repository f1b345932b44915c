use serde::{Deserialize, Serialize, Serializer};

use super::serde_helpers::is_default;
use super::timestamp::precisely;
use super::{
    DialTrace, DnsQueryTrace, HttpReqTrace, TcpConnTrace, Timestamp, TlsTunnelTrace, TraceList, UdpConnTrace,
};

/// A trace: all that was recorded, as it stood at one moment.
///
/// Records refer to one another by [`TraceId`](super::TraceId); see the [module](super) for how they nest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct NetTrace {
    /// Given by whoever took the trace.
    pub description: String,
    /// When tracing began: an absolute time, from which relative ones count.
    pub trace_begin_at: Timestamp,
    /// When the trace was taken.
    pub trace_end_at: Timestamp,
    /// The session that the trace belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Attempts to connect to a remote endpoint.
    pub dials: TraceList<DialTrace>,
    /// TCP connections, established or not.
    pub tcp_conns: TraceList<TcpConnTrace>,
    /// UDP sockets connected to one peer.
    pub udp_conns: TraceList<UdpConnTrace>,
    /// Conversations with nameservers, one for each connection to one. Empty when they are not recorded.
    pub dns_queries: TraceList<DnsQueryTrace>,
    /// TLS tunnels, established or not. Empty when they are not recorded.
    pub tls_tunnels: TraceList<TlsTunnelTrace>,
    /// HTTP requests. Empty when they are not recorded.
    pub http_requests: TraceList<HttpReqTrace>,
    /// What was recorded but no longer kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Dropped>,
}

impl NetTrace {
    /// The same trace for a serialiser, with relative times written to the nanosecond (`"+72.431907ms"`
    /// instead of `"+72ms"`).
    ///
    /// The Go package `nettrace` does not read such a file: it takes whole milliseconds alone
    /// (`ParseUint: parsing "72.431907": invalid syntax`). Of a file with whole milliseconds, on the other hand, a
    /// waterfall shows `<1 ms` for what took less.
    pub fn precise(&self) -> Precise<'_> {
        Precise(self)
    }
}

/// A trace that is serialised with all digits of its times: see [`NetTrace::precise`].
#[derive(Clone, Copy, Debug)]
pub struct Precise<'a>(&'a NetTrace);

impl Serialize for Precise<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        precisely(|| self.0.serialize(serializer))
    }
}

/// How many records went because the sink keeps only so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Dropped {
    /// HTTP requests.
    #[serde(skip_serializing_if = "is_default")]
    pub http_requests: u64,
    /// TCP connections.
    #[serde(skip_serializing_if = "is_default")]
    pub tcp_conns: u64,
    /// UDP connections.
    #[serde(skip_serializing_if = "is_default")]
    pub udp_conns: u64,
    /// Dials.
    #[serde(skip_serializing_if = "is_default")]
    pub dials: u64,
    /// Socket operations, of connections that are kept.
    #[serde(skip_serializing_if = "is_default")]
    pub socket_ops: u64,
}

impl Dropped {
    /// Whether nothing was dropped.
    pub fn is_empty(&self) -> bool {
        is_default(self)
    }
}
