//! What is kept of a connection.

use super::{conntrack::ConntrackCell, op_log::OpLog, probe_data::ProbeData};
use crate::{
    error::FailureDetail,
    record::EndReason,
    sink::{
        clock::{AtomicTick, Tick},
        core::Core,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// Both ends of a connection, as far as they are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoint {
    pub(crate) local: Option<SocketAddr>,
    pub(crate) remote: Option<SocketAddr>,
    /// The file of a Unix socket.
    pub(crate) path: Option<Box<str>>,
}

pub(crate) struct ConnRecord {
    /// `None` for one of which nothing is known but that something is done over it.
    pub(crate) id: Option<RecordId>,
    pub(crate) transport: Transport,
    pub(crate) from_resolver: bool,
    /// The peer made it.
    pub(crate) accepted: bool,
    /// Seen above TLS: what is counted is not what TCP carried.
    pub(crate) above_tls: bool,
    /// Nobody sees what is read and written.
    pub(crate) is_unobserved: bool,
    pub(crate) begin: Tick,
    /// The local address of an attempt is known only once the kernel has chosen one.
    pub(crate) local: OnceLock<SocketAddr>,
    pub(crate) remote: Option<SocketAddr>,
    /// The file of a Unix socket.
    pub(crate) path: Option<Box<str>>,
    pub(in crate::sink) established: AtomicTick,
    pub(in crate::sink) sent: AtomicU64,
    pub(in crate::sink) received: AtomicU64,
    pub(in crate::sink) first_byte: FirstByteCell,
    /// None where operations are not recorded.
    pub(crate) log: Option<OpLog>,
    /// The first error that an operation met.
    pub(in crate::sink) first_error: OnceLock<Box<FailureDetail>>,
    pub(in crate::sink) conntrack: ConntrackCell,
    /// Most have none.
    pub(in crate::sink) probe_data: OnceLock<Box<ProbeData>>,
    /// The TLS tunnel to the server, and the one to a proxy below it.
    pub(in crate::sink) tls: AtomicRecordId,
    pub(in crate::sink) proxy_tls: AtomicRecordId,
    /// Why it will be closed, said by whoever decided it.
    pub(in crate::sink) close_reason: OnceLock<EndReason>,
    /// The peer will send nothing more.
    pub(in crate::sink) peer_closed: AtomicBool,
    /// HTTP/2 is spoken over it.
    pub(in crate::sink) http2: AtomicBool,
    /// What is spoken over it is protected with TLS, whether that is recorded or not: said of accepted ones.
    #[cfg(feature = "server")]
    pub(in crate::sink) is_protected: AtomicBool,
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

/// When the first byte came after a request was given the connection.
#[derive(Debug, Default)]
pub(crate) struct FirstByteCell(AtomicU64);

/// The state of a [`FirstByteCell`] until the byte comes. Zero before a request was given the connection.
const FIRST_BYTE_PENDING: u64 = u64::MAX;

impl FirstByteCell {
    /// Waits for the next byte.
    pub(super) fn expect(&self) {
        self.0.store(FIRST_BYTE_PENDING, Relaxed);
    }

    #[inline]
    pub(super) fn is_expected(&self) -> bool {
        self.0.load(Relaxed) == FIRST_BYTE_PENDING
    }

    pub(super) fn set(&self, at: Tick) {
        self.0.store(at.get(), Relaxed);
    }

    #[inline]
    pub(super) fn get(&self) -> Option<Tick> {
        match self.0.load(Relaxed) {
            0 | FIRST_BYTE_PENDING => None,
            ticks => Some(Tick::from_ticks(ticks)),
        }
    }
}

impl ConnRecord {
    pub(in crate::sink) fn new(core: &Core, transport: Transport, endpoint: Endpoint) -> Self {
        Self::with_id(core, Some(core.id_alloc.next_id()), transport, endpoint)
    }

    pub(super) fn with_id(
        core: &Core,
        id: Option<RecordId>,
        transport: Transport,
        endpoint: Endpoint,
    ) -> Self {
        let Endpoint { local, remote, path } = endpoint;
        ConnRecord {
            id,
            transport,
            from_resolver: false,
            accepted: false,
            above_tls: false,
            is_unobserved: false,
            begin: core.now(),
            local: local.map_or_else(OnceLock::new, OnceLock::from),
            remote,
            path,
            established: AtomicTick::default(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            first_byte: FirstByteCell::default(),
            log: core.config.socket_ops.then(OpLog::new),
            first_error: OnceLock::new(),
            conntrack: ConntrackCell::default(),
            probe_data: OnceLock::new(),
            tls: AtomicRecordId::default(),
            proxy_tls: AtomicRecordId::default(),
            close_reason: OnceLock::new(),
            peer_closed: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            #[cfg(feature = "server")]
            is_protected: AtomicBool::new(false),
            end: EndCell::default(),
        }
    }

    pub(crate) fn is_udp(&self) -> bool {
        self.transport == Transport::Udp
    }

    pub(crate) fn established(&self) -> Option<Tick> {
        self.established.get()
    }

    /// When something was last seen of it, operations apart.
    pub(crate) fn latest(&self) -> Tick {
        self.begin.max_some(self.established())
    }

    /// The handshake with a SOCKS proxy.
    pub(in crate::sink) fn socks(&self) -> Option<&SocksRecord> {
        self.probe_data.get()?.socks.get()
    }

    /// The sink is closed. True when a handshake with a SOCKS proxy was under way.
    pub(in crate::sink) fn socks_cut_off(&self, now: Tick) -> bool {
        self.socks().is_some_and(|socks| socks.end.end(now.max(socks.begin), EndReason::SinkClosed, None))
    }

    /// The memory that it takes besides its own place.
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

    /// Bytes sent and received.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.sent.load(Relaxed), self.received.load(Relaxed))
    }
}
