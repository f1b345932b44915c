//! [`ConnRecord`]: the state of a connection, or of an attempt at one.

#[cfg(any(feature = "connect", feature = "request"))]
use super::first_byte::FirstByteCell;
use super::{conntrack::ConntrackCell, op_log::OpLog, probe_data::ProbeData};
use crate::{
    error::FailureDetail,
    record::EndReason,
    sink::{
        clock::{AtomicTick, Tick},
        proxy::record::SocksRecord,
        record_id::{AtomicRecordId, RecordId},
        registry::end::EndCell,
    },
};
use std::{
    net::SocketAddr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

/// The protocol below a connection. Unix sockets count as TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    #[cfg(feature = "_record_conns")]
    Tcp,
    Udp,
}

/// The state of a connection, or of an attempt at one.
///
/// Fields that are not atomic are set before the record is shared.
pub(crate) struct ConnRecord {
    /// `None` if nothing is known of the connection except that something runs over it.
    pub(crate) id: Option<RecordId>,
    pub(crate) transport: Transport,
    pub(crate) from_resolver: bool,
    /// Whether the peer made the connection.
    pub(crate) accepted: bool,
    /// Whether the connection was seen above TLS: then what is counted is not what TCP carried.
    pub(crate) above_tls: bool,
    /// Whether reads and writes are not seen.
    pub(crate) is_unobserved: bool,
    pub(crate) begin: Tick,
    /// Set later for an attempt, whose local address is known only once the kernel has chosen one.
    pub(crate) local: OnceLock<SocketAddr>,
    pub(crate) remote: Option<SocketAddr>,
    /// The path of a Unix socket.
    pub(crate) path: Option<Box<str>>,
    pub(in crate::sink) established: AtomicTick,
    pub(in crate::sink) sent: AtomicU64,
    pub(in crate::sink) received: AtomicU64,
    #[cfg(any(feature = "connect", feature = "request"))]
    pub(in crate::sink) first_byte: FirstByteCell,
    /// `None` if operations are not recorded.
    pub(crate) log: Option<OpLog>,
    /// The first error of an operation.
    pub(in crate::sink) first_error: OnceLock<Box<FailureDetail>>,
    pub(in crate::sink) conntrack: ConntrackCell,
    /// Most connections have none.
    pub(in crate::sink) probe_data: OnceLock<Box<ProbeData>>,
    /// The TLS tunnel to the server, and below it the one to a proxy.
    pub(in crate::sink) tls: AtomicRecordId,
    pub(in crate::sink) proxy_tls: AtomicRecordId,
    /// The reason for which the owner will close the connection.
    #[cfg(feature = "_record_conns")]
    pub(in crate::sink) close_reason: OnceLock<EndReason>,
    /// Whether the peer will send nothing more.
    #[cfg(feature = "connect")]
    pub(in crate::sink) peer_closed: AtomicBool,
    /// Whether HTTP/2 is spoken over the connection.
    pub(in crate::sink) http2: AtomicBool,
    /// Whether what is spoken over an accepted connection is protected with TLS, recorded or not.
    #[cfg(feature = "server")]
    pub(in crate::sink) is_protected: AtomicBool,
    /// Whether a layer around the client or the service has recorded a request that was made over the connection.
    #[cfg(feature = "wire")]
    pub(in crate::sink) has_request_layer: AtomicBool,
    pub(crate) end: EndCell,
}

/// How far a request came: its connection, and the tunnels over that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnPath {
    pub(crate) conn: Option<RecordId>,
    /// The TLS tunnel to the server.
    pub(crate) tls: Option<RecordId>,
    /// The TLS tunnel to a proxy, below that to the server.
    pub(crate) proxy_tls: Option<RecordId>,
}

impl ConnRecord {
    pub(crate) fn is_udp(&self) -> bool {
        self.transport == Transport::Udp
    }

    pub(crate) fn established(&self) -> Option<Tick> {
        self.established.get()
    }

    /// Returns when something was last seen of the connection, not counting operations.
    pub(crate) fn latest(&self) -> Tick {
        self.begin.max_some(self.established())
    }

    /// Returns the handshake with a SOCKS proxy.
    pub(in crate::sink) fn socks(&self) -> Option<&SocksRecord> {
        self.probe_data.get()?.socks.get()
    }

    /// Ends a handshake with a SOCKS proxy because the sink is closed. Returns `true` if one was under way.
    pub(in crate::sink) fn socks_cut_off(&self, now: Tick) -> bool {
        self.socks().is_some_and(|socks| socks.end.end(now.max(socks.begin), &EndReason::SinkClosed, None))
    }

    /// Returns the heap memory that the record takes.
    #[inline]
    pub(in crate::sink) fn heap_bytes(&self) -> usize {
        let boxed = |fault: &FailureDetail| size_of::<FailureDetail>() + fault.heap_bytes();
        self.path.as_deref().map_or(0, str::len)
            + self.log.as_ref().map_or(0, OpLog::heap_bytes)
            + self.first_error.get().map_or(0, |fault| boxed(fault))
            + self.end.fault().map_or(0, boxed)
            + self.conntrack.heap_bytes()
            + self.probe_data.get().map_or(0, |probe_data| probe_data.heap_bytes())
    }

    /// Returns the connection with the tunnels over it.
    pub(in crate::sink) fn path(&self) -> ConnPath {
        ConnPath { conn: self.id, tls: self.tls.get(), proxy_tls: self.proxy_tls.get() }
    }

    /// Returns the number of bytes sent and received.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.sent.load(Relaxed), self.received.load(Relaxed))
    }
}
