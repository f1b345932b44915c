//! Connections: what is kept of each, and its identity.

use super::{conntrack::ConntrackCell, op_log::OpLog, probe_data::ProbeData};
use crate::{
    error::FailureDetail,
    record::{EndReason, Failure, TraceId},
    sink::{
        clock::Tick,
        core::{Core, Timeline},
        dial::group::{DialGroup, GroupState},
        probe::{ProbeEvent, ProbeSocket, catch_panic},
        registry::end::EndCell,
        request::handle::RequestHandle,
        snapshot::{address_texts::AddressTexts, to_record},
        subscriber::FinishedRecord,
    },
};
#[cfg(any(feature = "connect", feature = "tls"))]
use hyper_util::client::legacy::connect::Connection;
use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
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

    fn numbered(core: &Core, number: u64, transport: Transport, endpoint: Endpoint) -> Self {
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

/// Identity of a traced connection, the same for all who use it. Travels in the extensions of responses, and
/// of the metadata that hyper-util keeps of a connection.
#[derive(Clone)]
pub struct ConnRef {
    pub(in crate::sink) group: Arc<DialGroup>,
    /// The record, unless it is the first of the group.
    other: Option<Arc<ConnRecord>>,
    /// In the extensions of a response: whose that is. By itself in there it would be an allocation a request.
    request: RequestHandle,
}

impl ConnRef {
    /// A connection that nothing is known of but that something is done over it.
    pub(in crate::sink) fn unknown(group: Arc<DialGroup>) -> Self {
        let record = ConnRecord::numbered(&group.core, 0, Transport::Tcp, Endpoint::default());
        ConnRef::new(group, Some(Arc::new(record)))
    }

    /// Adds the connection that `make` returns. Returns `None` if nothing more is recorded of that dial.
    pub(in crate::sink) fn register(
        group: Arc<DialGroup>,
        make: impl FnOnce(&Core) -> ConnRecord,
    ) -> Option<Self> {
        let other = group.add_conn(make)?;
        Some(ConnRef::new(group, other))
    }

    fn new(group: Arc<DialGroup>, other: Option<Arc<ConnRecord>>) -> Self {
        ConnRef { group, other, request: RequestHandle::unbound() }
    }

    /// The connections and attempts of a group, whose state is locked.
    pub(in crate::sink) fn all<'a>(
        group: &'a Arc<DialGroup>,
        state: &'a GroupState,
    ) -> impl Iterator<Item = ConnRef> + 'a {
        let first = group.first().map(|_| None).into_iter();
        let others = first.chain(state.others().iter().cloned().map(Some));
        others.map(|other| ConnRef::new(group.clone(), other))
    }

    #[inline]
    pub(in crate::sink) fn record(&self) -> &ConnRecord {
        record(&self.group, self.other.as_ref())
    }

    /// The identity of what a connector has connected; `None` when it is not traced.
    #[cfg(any(feature = "connect", feature = "tls"))]
    pub fn of(io: &impl Connection) -> Option<Self> {
        super::identity::identify(io)
    }

    /// The identifier of the connection in a trace; empty when only a TLS tunnel over a foreign stream is known.
    pub fn id(&self) -> TraceId {
        self.group.core.id(self.number())
    }

    /// The address of this side, where there is one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.record().local.get().copied()
    }

    /// The address of the peer, where there is one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.record().remote
    }

    pub(crate) fn number(&self) -> u64 {
        self.record().number
    }

    /// Over what it runs; `None` when only a TLS tunnel over a foreign stream is known.
    #[cfg(all(unix, feature = "capture"))]
    pub(crate) fn transport(&self) -> Option<Transport> {
        let record = self.record();
        (record.number != 0).then_some(record.transport)
    }

    /// How long ago it began.
    #[cfg(all(unix, feature = "capture"))]
    pub(crate) fn age(&self) -> std::time::Duration {
        let core = &self.group.core;
        core.clock.between(self.record().begin, core.now())
    }

    /// Whether it is one of that sink's.
    pub(in crate::sink) fn is_of(&self, core: &Arc<Core>) -> bool {
        Arc::ptr_eq(&self.group.core, core)
    }

    /// A request was given the connection: the next byte that comes is the first of its response (HTTP/1).
    pub(crate) fn await_first_byte(&self) {
        self.record().first_byte.store(FIRST_BYTE_PENDING, Relaxed);
    }

    /// Its close is not to be recorded as a mere `closed`.
    pub(crate) fn set_close_reason(&self, reason: EndReason) {
        let _ = self.record().close_reason.set(reason);
    }

    /// HTTP/2 will be spoken over it, by ALPN or by prior knowledge.
    pub(crate) fn set_http2(&self) {
        self.record().http2.store(true, Relaxed);
    }

    /// Whether that is the same connection.
    #[cfg(feature = "tonic")]
    pub(crate) fn is_same(&self, other: &ConnRef) -> bool {
        std::ptr::eq(self.record(), other.record())
    }

    /// The peer will send nothing more, as TLS says above it.
    #[cfg(all(feature = "server", feature = "tls"))]
    pub(crate) fn set_peer_closed(&self) {
        self.record().peer_closed.store(true, Relaxed);
    }

    /// From now on what is spoken over it is protected with TLS.
    #[cfg(all(feature = "server", feature = "tls"))]
    pub(crate) fn set_secure(&self) {
        self.record().is_protected.store(true, Relaxed);
    }

    /// Whether what is spoken over it is protected with TLS.
    #[cfg(feature = "server")]
    pub(crate) fn is_secure(&self) -> bool {
        self.record().is_protected.load(Relaxed)
    }

    /// The response that this one came with is that of `request`.
    pub(crate) fn answers(&mut self, request: RequestHandle) {
        self.request = request;
    }

    /// The request whose response this one came with.
    pub(in crate::sink) fn answered(&self) -> Option<&RequestHandle> {
        Some(&self.request).filter(|request| !request.is_unbound())
    }

    /// As a request refers to it.
    pub(in crate::sink) fn link(&self) -> ConnLink {
        ConnLink { group: self.group.clone(), other: self.other.clone() }
    }
}

impl fmt::Debug for ConnRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnRef({})", self.id())
    }
}

#[inline]
fn record<'a>(group: &'a DialGroup, other: Option<&'a Arc<ConnRecord>>) -> &'a ConnRecord {
    match other {
        Some(other) => other,
        None => group.first().expect("it was put there before the first reference to it"),
    }
}

/// A connection of a request. Does not lead back to the request, as a [`ConnRef`] may.
#[derive(Clone)]
pub(crate) struct ConnLink {
    pub(in crate::sink) group: Arc<DialGroup>,
    other: Option<Arc<ConnRecord>>,
}

impl ConnLink {
    #[inline]
    fn record(&self) -> &ConnRecord {
        record(&self.group, self.other.as_ref())
    }

    #[inline]
    pub(in crate::sink) fn is_same(&self, conn: &ConnRef) -> bool {
        std::ptr::eq(self.record(), conn.record())
    }

    pub(in crate::sink) fn id(&self) -> TraceId {
        self.group.core.id(self.record().number)
    }

    /// Itself, the tunnel to the server over it, and the one to a proxy.
    pub(in crate::sink) fn path(&self) -> [u64; 3] {
        self.record().path()
    }

    /// When the first byte came after the request was given the connection.
    #[inline]
    pub(in crate::sink) fn first_byte(&self) -> Tick {
        let at = self.record().first_byte.load(Relaxed);
        if at == FIRST_BYTE_PENDING { Tick::NONE } else { Tick(at) }
    }

    pub(in crate::sink) fn is_http2(&self) -> bool {
        self.record().http2.load(Relaxed)
    }

    /// What went wrong with it, or with a tunnel over it.
    pub(in crate::sink) fn fault(&self) -> Option<FailureDetail> {
        let first_error = || self.record().first_error.get().map(|fault| (**fault).clone());
        self.group.tunnel_fault().or_else(first_error)
    }

    /// Whether the peer will send nothing more.
    #[cfg(feature = "server")]
    pub(in crate::sink) fn is_closed_by_peer(&self) -> bool {
        self.record().peer_closed.load(Relaxed)
    }

    /// Why a request was moved away from it: what ended it, or that the peer did not want it any more.
    pub(in crate::sink) fn stale(&self) -> Failure {
        self.record().end.fault().map_or(Failure::EofError, |fault| fault.failure.clone())
    }
}

impl fmt::Debug for ConnLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnLink({})", self.id())
    }
}

pub(in crate::sink) fn end(conn: &ConnRef, reason: EndReason, fault: Option<FailureDetail>) {
    let (group, record) = (&conn.group, conn.record());
    if record.end.is_open() && record.end.end(group.core.now().max(record.latest()), reason, fault) {
        group.record_ended();
        group.core.publish(|times| finished(conn, times));
    }
}

fn finished(conn: &ConnRef, times: &Timeline) -> FinishedRecord {
    let mut addresses = AddressTexts::default();
    if conn.record().is_udp() {
        FinishedRecord::UdpConn(to_record::udp_conn(conn, times, &mut addresses))
    } else {
        FinishedRecord::TcpConn(to_record::tcp_conn(conn, times, &mut addresses))
    }
}

pub(in crate::sink) fn show(conn: &ConnRef, event: ProbeEvent, socket: ProbeSocket<'_>) {
    for probe in conn.group.core.probes() {
        catch_panic(|| probe.event(conn, event, socket));
    }
}
