//! What is kept of a connection.

use super::{conntrack::ConntrackCell, op_log::OpLog, probe_data::ProbeData};
use crate::{
    error::FailureDetail,
    record::EndReason,
    sink::{clock::Tick, core::Core, proxy::record::SocksRecord, registry::end::EndCell},
};
use std::{
    net::SocketAddr,
    sync::{
        OnceLock,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed},
        },
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
    pub(crate) number: u64,
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
    pub(in crate::sink) established: AtomicU64,
    pub(in crate::sink) sent: AtomicU64,
    pub(in crate::sink) received: AtomicU64,
    /// The first read after a request was given the connection; [`FIRST_BYTE_PENDING`] until it comes.
    pub(in crate::sink) first_byte: AtomicU64,
    /// None where operations are not recorded.
    pub(crate) log: Option<OpLog>,
    /// The first error that an operation met.
    pub(in crate::sink) first_error: OnceLock<Box<FailureDetail>>,
    pub(in crate::sink) conntrack: ConntrackCell,
    /// Most have none.
    pub(in crate::sink) probe_data: OnceLock<Box<ProbeData>>,
    /// The TLS tunnel to the server, and the one to a proxy below it.
    pub(in crate::sink) tls: AtomicU64,
    pub(in crate::sink) proxy_tls: AtomicU64,
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

pub(in crate::sink) const FIRST_BYTE_PENDING: u64 = u64::MAX;

impl ConnRecord {
    pub(in crate::sink) fn new(core: &Core, transport: Transport, endpoint: Endpoint) -> Self {
        Self::numbered(core, core.id_alloc.next_id(), transport, endpoint)
    }

    pub(super) fn numbered(core: &Core, number: u64, transport: Transport, endpoint: Endpoint) -> Self {
        let Endpoint { local, remote, path } = endpoint;
        ConnRecord {
            number,
            transport,
            from_resolver: false,
            accepted: false,
            above_tls: false,
            is_unobserved: false,
            begin: core.now(),
            local: local.map_or_else(OnceLock::new, OnceLock::from),
            remote,
            path,
            established: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            first_byte: AtomicU64::new(0),
            log: core.config.socket_ops.then(OpLog::new),
            first_error: OnceLock::new(),
            conntrack: ConntrackCell::default(),
            probe_data: OnceLock::new(),
            tls: AtomicU64::new(0),
            proxy_tls: AtomicU64::new(0),
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

    pub(crate) fn established(&self) -> Tick {
        Tick(self.established.load(Acquire))
    }

    /// When something was last seen of it, operations apart.
    pub(crate) fn latest(&self) -> Tick {
        self.begin.max(self.established())
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

    /// Itself, the tunnel to the server over it, and the one to a proxy.
    pub(in crate::sink) fn path(&self) -> [u64; 3] {
        [self.number, self.tls.load(Relaxed), self.proxy_tls.load(Relaxed)]
    }

    /// Bytes sent and received.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.sent.load(Relaxed), self.received.load(Relaxed))
    }
}
