//! Connections: what is kept of each, and its identity.

use super::{
    clock::Tick,
    core::{Core, Timeline},
    end::EndCell,
    export,
    findings::Findings,
    group::Group,
    oplog::OpLog,
    probe::{ProbeEvent, ProbeSocket, contained},
    subscriber::FinishedRecord,
};
use crate::{
    error::Fault,
    record::{EndReason, Failure, TraceId},
};
use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicU64,
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
    /// Seen above TLS: what is counted is not what TCP carried.
    pub(crate) above_tls: bool,
    pub(crate) begin: Tick,
    /// The local address of an attempt is known only once the kernel has chosen one.
    pub(crate) local: OnceLock<SocketAddr>,
    pub(crate) remote: Option<SocketAddr>,
    /// The file of a Unix socket.
    pub(crate) path: Option<Box<str>>,
    pub(super) established: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    /// The first read after a request was given the connection; [`AWAITED`] until it comes.
    pub(super) first_byte: AtomicU64,
    /// Begun when it is established, if operations are recorded.
    pub(crate) log: OnceLock<OpLog>,
    /// The first error that an operation met.
    pub(super) broken: OnceLock<Box<Fault>>,
    /// Only probes find something.
    pub(super) findings: OnceLock<Box<Findings>>,
    pub(crate) end: EndCell,
}

pub(super) const AWAITED: u64 = u64::MAX;

impl ConnRecord {
    pub(super) fn new(core: &Core, transport: Transport, endpoint: Endpoint) -> Self {
        let Endpoint { local, remote, path } = endpoint;
        ConnRecord {
            number: core.numbers.one(),
            transport,
            from_resolver: false,
            above_tls: false,
            begin: core.now(),
            local: local.map_or_else(OnceLock::new, OnceLock::from),
            remote,
            path,
            established: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            first_byte: AtomicU64::new(0),
            log: OnceLock::new(),
            broken: OnceLock::new(),
            findings: OnceLock::new(),
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

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }
}

/// Identity of a traced connection, the same for all who use it. Travels in the extensions of responses, and
/// of the metadata that hyper-util keeps of a connection.
#[derive(Clone)]
pub struct ConnRef(pub(super) Arc<ConnShared>);

pub(super) struct ConnShared {
    pub(super) group: Arc<Group>,
    pub(super) record: Option<Arc<ConnRecord>>,
    /// The TLS tunnel to the server, and the one to a proxy below it.
    pub(super) tls: AtomicU64,
    pub(super) proxy_tls: AtomicU64,
    /// Why it will be closed, said by whoever decided it.
    pub(super) closing: OnceLock<EndReason>,
}

impl ConnRef {
    pub(super) fn new(group: Arc<Group>, record: Option<Arc<ConnRecord>>) -> Self {
        let (tls, proxy_tls) = Default::default();
        ConnRef(Arc::new(ConnShared { group, record, tls, proxy_tls, closing: OnceLock::new() }))
    }

    /// The identifier of the connection in a trace; empty when only a TLS tunnel over a foreign stream is known.
    pub fn id(&self) -> TraceId {
        self.0.group.core.id(self.number())
    }

    /// The address of this side, where there is one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.0.record.as_ref().and_then(|record| record.local.get().copied())
    }

    /// The address of the peer, where there is one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.0.record.as_ref().and_then(|record| record.remote)
    }

    pub(crate) fn number(&self) -> u64 {
        self.0.record.as_ref().map_or(0, |record| record.number)
    }

    /// Whether it is one of that sink's.
    pub(super) fn is_of(&self, core: &Arc<Core>) -> bool {
        Arc::ptr_eq(&self.0.group.core, core)
    }

    /// A request was given the connection: the next byte that comes is the first of its response (HTTP/1).
    pub(crate) fn await_first_byte(&self) {
        if let Some(record) = &self.0.record {
            record.first_byte.store(AWAITED, Relaxed);
        }
    }

    /// When that byte came.
    pub(crate) fn first_byte(&self) -> Tick {
        let at = self.0.record.as_ref().map_or(0, |record| record.first_byte.load(Relaxed));
        if at == AWAITED { Tick::NONE } else { Tick(at) }
    }

    /// Its close is not to be recorded as a mere `closed`.
    pub(crate) fn will_close(&self, reason: EndReason) {
        let _ = self.0.closing.set(reason);
    }

    /// What went wrong with it, or with a tunnel over it.
    pub(super) fn fault(&self) -> Option<Fault> {
        let broken = || self.0.record.as_ref()?.broken.get().map(|fault| (**fault).clone());
        self.0.group.tunnel_fault().or_else(broken)
    }

    /// Why a request was moved away from it: what ended it, or that the peer did not want it any more.
    pub(super) fn stale(&self) -> Failure {
        let fault = self.0.record.as_ref().and_then(|record| record.end.fault());
        fault.map_or(Failure::EofError, |fault| fault.failure.clone())
    }

    pub(crate) fn same(&self, other: &ConnRef) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for ConnRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnRef({})", self.id())
    }
}

/// `None` when nothing more is recorded of that dial.
pub(super) fn register(group: &Group, record: ConnRecord) -> Option<Arc<ConnRecord>> {
    let record = Arc::new(record);
    group.begin(|state| state.conns.push(record.clone()))?;
    Some(record)
}

pub(super) fn end(group: &Group, record: &ConnRecord, reason: EndReason, fault: Option<Fault>) {
    if record.end.is_open() && record.end.end(group.core.now().max(record.latest()), reason, fault) {
        group.ended();
        group.core.publish(|times| finished(group, record, times));
    }
}

fn finished(group: &Group, record: &ConnRecord, times: &Timeline) -> FinishedRecord {
    if record.is_udp() {
        FinishedRecord::UdpConn(export::udp_conn(group, record, times))
    } else {
        FinishedRecord::TcpConn(export::tcp_conn(group, record, times))
    }
}

pub(super) fn show(conn: &ConnRef, event: ProbeEvent, socket: ProbeSocket<'_>) {
    for probe in conn.0.group.core.probes() {
        contained(|| probe.event(conn, event, socket));
    }
}
