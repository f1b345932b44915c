//! Connections: what an attempt, an open socket and its user say of it.

use super::{
    clock::Tick,
    core::{Core, Timeline},
    dns::DnsRecorder,
    end::EndCell,
    export,
    group::Group,
    oplog::{OpKind, OpLog, OpWriter},
    probe::{ProbeEvent, ProbeSocket, contained},
    subscriber::FinishedRecord,
};
use crate::{
    error::{Fault, classify::io_fault},
    record::{EndReason, Failure, TraceId},
};
use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
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
    pub(crate) endpoint: Endpoint,
    /// The local address of an attempt is known only once the kernel has chosen one.
    pub(crate) local: OnceLock<SocketAddr>,
    established: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    /// The first read after a request was given the connection; [`AWAITED`] until it comes.
    first_byte: AtomicU64,
    pub(crate) log: Option<OpLog>,
    /// The first error that an operation met.
    broken: OnceLock<Box<Fault>>,
    pub(crate) end: EndCell,
}

const AWAITED: u64 = u64::MAX;

impl ConnRecord {
    fn new(core: &Core, transport: Transport, endpoint: Endpoint) -> Self {
        ConnRecord {
            number: core.numbers.one(),
            transport,
            from_resolver: false,
            above_tls: false,
            begin: core.now(),
            local: endpoint.local.map_or_else(OnceLock::new, OnceLock::from),
            endpoint,
            established: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            first_byte: AtomicU64::new(0),
            log: core.settings.socket_ops.then(|| OpLog::new(core.settings.retention)),
            broken: OnceLock::new(),
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
    closing: OnceLock<EndReason>,
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
        self.0.record.as_ref().and_then(|record| record.endpoint.remote)
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

/// One TCP attempt. Dropped before it ended, it was given up.
#[derive(Debug)]
pub(crate) struct AttemptRecorder(Option<ConnRef>);

impl AttemptRecorder {
    pub(crate) fn off() -> Self {
        AttemptRecorder(None)
    }

    pub(super) fn begin(group: Option<Arc<Group>>, remote: SocketAddr, from_resolver: bool) -> Self {
        AttemptRecorder(group.and_then(|group| {
            let endpoint = Endpoint { remote: Some(remote), ..Endpoint::default() };
            let mut record = ConnRecord::new(&group.core, Transport::Tcp, endpoint);
            record.from_resolver = from_resolver;
            register(group, record)
        }))
    }

    /// Shows the socket to the probes before it is connected.
    pub(crate) fn before_connect(&self, socket: ProbeSocket<'_>) {
        let Some(conn) = &self.0 else { return };
        let Some(remote) = conn.peer_addr() else { return };
        for probe in conn.0.group.core.probes() {
            contained(|| probe.before_connect(socket, remote));
        }
    }

    /// The local address, as soon as there is one.
    pub(crate) fn local(&self, local: impl FnOnce() -> Option<SocketAddr>) {
        if let Some(ConnRef(shared)) = &self.0
            && let Some(record) = shared.record.as_ref().filter(|record| record.end.is_open())
            && record.local.get().is_none()
            && let Some(local) = local()
        {
            let _ = record.local.set(local);
        }
    }

    pub(crate) fn show(&self, event: ProbeEvent, socket: ProbeSocket<'_>) {
        if let Some(conn) = &self.0 {
            show(conn, event, socket);
        }
    }

    pub(crate) fn connected(mut self, local: impl FnOnce() -> Option<SocketAddr>) -> ConnRecorder {
        self.local(local);
        ConnRecorder::established(self.0.take())
    }

    pub(crate) fn failed(mut self, error: &io::Error) {
        self.end(EndReason::Failed, io_fault(error));
    }

    pub(crate) fn timed_out(mut self) {
        self.end(EndReason::Timeout, Fault::new(Failure::GenericTimeoutError, "the TCP handshake timed out"));
    }

    /// Another attempt was faster.
    pub(crate) fn lost_race(mut self) {
        self.end(EndReason::LostRace, Fault::new(Failure::Interrupted, "another attempt was faster"));
    }

    fn end(&mut self, reason: EndReason, fault: Fault) {
        if let Some(conn) = self.0.take() {
            end(&conn, reason, Some(fault));
        }
    }
}

impl Drop for AttemptRecorder {
    fn drop(&mut self) {
        self.end(EndReason::Cancelled, Fault::new(Failure::Interrupted, "the attempt was given up"));
    }
}

/// Lives with a socket and writes down what is done to it. Its drop is the close.
#[derive(Debug, Default)]
pub(crate) struct ConnRecorder(Option<Live>);

struct Live {
    conn: ConnRef,
    record: Arc<ConnRecord>,
    writer: OpWriter,
    sent: u64,
    received: u64,
    peer_closed: bool,
    said: Option<Box<Fault>>,
    reason: Option<EndReason>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.conn.fmt(f)
    }
}

impl ConnRecorder {
    pub(crate) const fn off() -> Self {
        ConnRecorder(None)
    }

    fn established(conn: Option<ConnRef>) -> Self {
        let Some(conn) = conn else { return ConnRecorder(None) };
        let record = conn.0.record.clone().filter(|record| record.end.is_open());
        let Some(record) = record else { return ConnRecorder(None) };
        record.established.store(conn.0.group.core.now().max(record.begin).0, Release);
        let writer = OpWriter::new(record.log.as_ref());
        ConnRecorder(Some(Live {
            conn,
            record,
            writer,
            sent: 0,
            received: 0,
            peer_closed: false,
            said: None,
            reason: None,
        }))
    }

    pub(super) fn udp(group: Arc<Group>, local: SocketAddr, remote: SocketAddr) -> Self {
        let endpoint = Endpoint { local: Some(local), remote: Some(remote), path: None };
        let mut record = ConnRecord::new(&group.core, Transport::Udp, endpoint);
        record.from_resolver = true;
        Self::established(register(group, record))
    }

    pub(super) fn adopt(
        group: Option<Arc<Group>>,
        transport: Transport,
        endpoint: impl FnOnce() -> Endpoint,
        above_tls: bool,
    ) -> Self {
        Self::established(group.and_then(|group| {
            let mut record = ConnRecord::new(&group.core, transport, endpoint());
            record.above_tls = above_tls;
            if let Some(dial) = &group.dial {
                record.begin = dial.begin;
            }
            register(group, record)
        }))
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn number(&self) -> u64 {
        self.0.as_ref().map_or(0, |live| live.record.number)
    }

    pub(crate) fn conn_ref(&self) -> Option<&ConnRef> {
        self.0.as_ref().map(|live| &live.conn)
    }

    /// When an operation begins. Reads the clock only if operations are recorded.
    #[inline]
    pub(crate) fn start(&self) -> Tick {
        match &self.0 {
            Some(live) if live.writer.is_on() && live.record.end.is_open() => live.conn.0.group.core.now(),
            _ => Tick::NONE,
        }
    }

    /// A read returned. True when it brought the first byte.
    #[inline]
    pub(crate) fn read(&mut self, call: Tick, result: Result<usize, &io::Error>) -> bool {
        let Some(live) = &mut self.0 else { return false };
        if !live.record.end.is_open() {
            return false;
        }
        let first = live.received == 0;
        if let Ok(n) = result {
            live.received += n as u64;
            live.record.received.store(live.received, Relaxed);
            if n > 0 && live.record.first_byte.load(Relaxed) == AWAITED {
                live.record.first_byte.store(live.conn.0.group.core.now().0, Relaxed);
            }
        }
        live.op(OpKind::Read, call, result);
        first && live.received != 0
    }

    /// A write returned.
    #[inline]
    pub(crate) fn write(&mut self, call: Tick, result: Result<usize, &io::Error>) {
        let Some(live) = &mut self.0 else { return };
        if !live.record.end.is_open() {
            return;
        }
        if let Ok(n) = result {
            live.sent += n as u64;
            live.record.sent.store(live.sent, Relaxed);
        }
        live.op(OpKind::Write, call, result);
    }

    /// The peer will send nothing more.
    #[inline]
    pub(crate) fn peer_closed(&mut self) {
        if let Some(live) = &mut self.0 {
            live.peer_closed = true;
        }
    }

    /// Shows the socket to the probes.
    pub(crate) fn show(&self, event: ProbeEvent, socket: ProbeSocket<'_>) {
        if let Some(live) = &self.0 {
            show(&live.conn, event, socket);
        }
    }

    /// The record of the messages that a resolver exchanges over this connection.
    pub(crate) fn dns(&self) -> DnsRecorder {
        match &self.0 {
            Some(live) => DnsRecorder::begin(&live.conn.0.group, live.record.number),
            None => DnsRecorder::off(),
        }
    }

    /// Says how it will have ended when it is dropped, where the socket alone does not tell.
    pub(crate) fn will_end(&mut self, reason: EndReason, failure: Option<(Failure, &str)>) {
        let Some(live) = &mut self.0 else { return };
        live.reason = Some(reason);
        if let Some((failure, text)) = failure {
            live.said = Some(Box::new(Fault::new(failure, text)));
        }
    }
}

impl Live {
    #[inline]
    fn op(&mut self, kind: OpKind, call: Tick, result: Result<usize, &io::Error>) {
        if let Err(error) = result {
            self.failed(error);
        }
        if let Some(log) = &self.record.log {
            let core = &self.conn.0.group.core;
            self.writer.push(log, kind, call, core.now(), result);
        }
    }

    #[cold]
    fn failed(&mut self, error: &io::Error) {
        self.record.broken.get_or_init(|| Box::new(io_fault(error)));
    }
}

impl Drop for ConnRecorder {
    fn drop(&mut self) {
        let Some(live) = self.0.take() else { return };
        let fault = live.said.or_else(|| live.record.broken.get().cloned());
        let observed = match (&fault, live.peer_closed) {
            (Some(_), _) => EndReason::Failed,
            (None, true) => EndReason::PeerClosed,
            (None, false) => EndReason::Closed,
        };
        // An error on the way to a close that was meant is still an error.
        let meant = live.conn.0.closing.get().filter(|_| fault.is_none()).cloned();
        let reason = live.reason.or(meant).unwrap_or(observed);
        end(&live.conn, reason, fault.map(|fault| *fault));
    }
}

/// `None` when nothing more is recorded of that dial.
fn register(group: Arc<Group>, record: ConnRecord) -> Option<ConnRef> {
    let record = Arc::new(record);
    group.begin(|state| state.conns.push(record.clone()))?;
    Some(ConnRef::new(group, Some(record)))
}

fn end(conn: &ConnRef, reason: EndReason, fault: Option<Fault>) {
    let (group, Some(record)) = (&conn.0.group, &conn.0.record) else { return };
    if record.end.end(group.core.now().max(record.latest()), reason, fault) {
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

fn show(conn: &ConnRef, event: ProbeEvent, socket: ProbeSocket<'_>) {
    for probe in conn.0.group.core.probes() {
        contained(|| probe.event(conn, event, socket));
    }
}
