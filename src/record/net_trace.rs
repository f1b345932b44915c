//! The trace itself, which holds lists of all records.

use serde::{Deserialize, Serialize, Serializer};

#[cfg(feature = "_store")]
use super::relocation::Relocation;
use super::serde_helpers::{is_default, null_as_default};
use super::timestamp::with_precise_times;
use super::{
    DialTrace, DnsQueryTrace, HostTraffic, HttpReqTrace, TcpConnTrace, Timestamp, TlsTunnelTrace, TraceList,
    UdpConnTrace,
};

/// A trace: everything recorded up to one moment.
///
/// Records refer to each other by [`TraceId`](super::TraceId). The [module](super) shows how they nest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct NetTrace {
    /// A description given by the caller who took the trace.
    pub description: String,
    /// When tracing began: an absolute time, to which relative times refer.
    pub trace_begin_at: Timestamp,
    /// When the trace was taken.
    pub trace_end_at: Timestamp,
    /// The identifier of the session that the trace belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// The dials: attempts to connect to a remote endpoint.
    pub dials: TraceList<DialTrace>,
    /// The TCP connections, established or not.
    pub tcp_conns: TraceList<TcpConnTrace>,
    /// The UDP sockets connected to one peer.
    pub udp_conns: TraceList<UdpConnTrace>,
    /// The DNS exchanges, one for each connection to a nameserver. Empty if DNS messages are not recorded.
    pub dns_queries: TraceList<DnsQueryTrace>,
    /// The TLS tunnels, established or not. Empty if they are not recorded.
    pub tls_tunnels: TraceList<TlsTunnelTrace>,
    /// The HTTP requests. Empty if they are not recorded.
    pub http_requests: TraceList<HttpReqTrace>,
    /// The numbers of records that were recorded but evicted since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Dropped>,
}

impl NetTrace {
    /// Returns a view of the trace that serializes relative times with nanoseconds (`"+72.431907ms"` instead of
    /// `"+72ms"`).
    ///
    /// The Go package `nettrace` cannot read such a file, since it parses whole milliseconds only (`ParseUint: parsing
    /// "72.431907": invalid syntax`). From a file with whole milliseconds, a waterfall shows `<1 ms` for anything
    /// shorter.
    pub fn precise(&self) -> Precise<'_> {
        Precise(self)
    }
}

#[cfg(feature = "_store")]
impl NetTrace {
    /// Returns the trace with `prefix` before each identifier, and with times relative to `begin`, which is not later
    /// than its own begin. Absolute times stay as they are. If one of the two begins is undefined, all times do.
    ///
    /// # Errors
    ///
    /// Fails only if the trace does not survive its own JSON.
    pub(crate) fn relocated(&self, prefix: &str, begin: Timestamp) -> serde_json::Result<NetTrace> {
        let distance = self.trace_begin_at.sub(begin);
        let shift_nanos = distance.and_then(|nanos| u64::try_from(nanos).ok());
        let relocation = Relocation { prefix: prefix.into(), shift_nanos: shift_nanos.unwrap_or(0) };
        let json = serde_json::to_vec(&self.precise())?;
        let mut trace: NetTrace = relocation.scope(|| serde_json::from_slice(&json))?;
        if shift_nanos.is_some() {
            trace.trace_begin_at = begin;
        }
        Ok(trace)
    }
}

/// A trace that is serialized with precise times. See [`NetTrace::precise`].
#[derive(Clone, Copy, Debug)]
pub struct Precise<'a>(&'a NetTrace);

impl Serialize for Precise<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        with_precise_times(|| self.0.serialize(serializer))
    }
}

/// The numbers of records that were evicted because of the sink's limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Dropped {
    /// The number of HTTP requests.
    #[serde(skip_serializing_if = "is_default")]
    pub http_requests: u64,
    /// The number of TCP connections.
    #[serde(skip_serializing_if = "is_default")]
    pub tcp_conns: u64,
    /// The number of UDP connections.
    #[serde(skip_serializing_if = "is_default")]
    pub udp_conns: u64,
    /// The number of dials.
    #[serde(skip_serializing_if = "is_default")]
    pub dials: u64,
    /// The number of socket operations, of connections that are still in the trace.
    #[serde(skip_serializing_if = "is_default")]
    pub socket_ops: u64,
    /// The evicted requests of each host, counted.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub by_host: Vec<HostTraffic>,
}

impl Dropped {
    /// Returns `true` if nothing was dropped.
    pub fn is_empty(&self) -> bool {
        is_default(self)
    }
}
