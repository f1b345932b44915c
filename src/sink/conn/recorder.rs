//! [`ConnRecorder`]: records an open connection on behalf of the socket's owner.

#[cfg(all(feature = "timestamping", target_os = "linux"))]
use super::kernel_times_recorder::KernelTimesRecorder;
use super::{
    conn_ref::ConnRef,
    new_record::Endpoint,
    op_log::OpLog,
    op_writer::OpWriter,
    record::{ConnRecord, Transport},
};
#[cfg(feature = "resolve")]
use crate::record::Failure;
#[cfg(feature = "server")]
use crate::sink::trace_sink::TraceSink;
use crate::{
    error::{FailureDetail, classify::io_failure_detail},
    record::{EndReason, OpKind},
    sink::{
        clock::Tick,
        core::Core,
        dial::group::DialGroup,
        probe::{Probe, ProbeEvent, ProbeSocket, catch_panic},
        snapshot::{address_texts::AddressTexts, timeline::Timeline, to_record},
        subscriber::{FinishedRecord, RecordKind},
    },
};
use std::{
    fmt, io,
    sync::{Arc, atomic::Ordering::Relaxed},
};

#[cfg(feature = "server")]
impl TraceSink {
    /// Records a connection that was accepted.
    pub(crate) fn accepted(&self, endpoint: impl FnOnce() -> Endpoint) -> ConnRecorder {
        let Some(records) = self.active() else { return ConnRecorder::off() };
        ConnRecorder::accepted(records.new_group(), endpoint())
    }
}

/// Records what is done with a socket. Dropping it records the close.
#[derive(Debug, Default)]
pub(crate) struct ConnRecorder(Option<Live>);

struct Live {
    conn: ConnRef,
    writer: OpWriter,
    sent: u64,
    received: u64,
    peer_closed: bool,
    override_fault: Option<Box<FailureDetail>>,
    override_reason: Option<EndReason>,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.conn.fmt(f)
    }
}

impl ConnRecorder {
    #[cfg(any(feature = "resolve", feature = "server"))]
    pub(crate) const fn off() -> Self {
        ConnRecorder(None)
    }

    pub(in crate::sink) fn established(conn: ConnRef) -> Self {
        let (core, record) = (&conn.group.core, conn.record());
        if !record.end.is_open() {
            return ConnRecorder(None);
        }
        let writer = OpWriter::new(&core.config.retention);
        // An accepted connection was established when it began.
        let now = if record.accepted { record.begin } else { core.now().max(record.begin) };
        record.established.set(now);
        ConnRecorder(Some(Live {
            conn,
            writer,
            sent: 0,
            received: 0,
            peer_closed: false,
            override_fault: None,
            override_reason: None,
        }))
    }

    pub(in crate::sink) fn adopt(
        group: Option<Arc<DialGroup>>,
        transport: Transport,
        endpoint: impl FnOnce() -> Endpoint,
        above_tls: bool,
    ) -> Self {
        let Some(group) = group else { return ConnRecorder(None) };
        let (endpoint, dial_begin) = (endpoint(), group.connect_begin());
        Self::begin(group, |core| {
            let record = ConnRecord::new(core, transport, endpoint);
            ConnRecord { above_tls, begin: dial_begin.unwrap_or(record.begin), ..record }
        })
    }

    /// Begins a connection that the peer has made.
    #[cfg(feature = "server")]
    pub(in crate::sink) fn accepted(group: Arc<DialGroup>, endpoint: Endpoint) -> Self {
        Self::begin(group, |core| ConnRecord {
            accepted: true,
            ..ConnRecord::new(core, Transport::Tcp, endpoint)
        })
    }

    /// Begins the connection that `make` returns.
    pub(in crate::sink) fn begin(group: Arc<DialGroup>, make: impl FnOnce(&Core) -> ConnRecord) -> Self {
        ConnRef::register(group, make).map_or(ConnRecorder(None), Self::established)
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn conn_ref(&self) -> Option<&ConnRef> {
        self.0.as_ref().map(|live| &live.conn)
    }

    /// Returns when an operation begins. Reads the clock only if operations are recorded.
    #[inline]
    pub(crate) fn start(&self) -> Option<Tick> {
        match &self.0 {
            Some(live) if live.log().is_some() && live.conn.record().end.is_open() => Some(live.now()),
            _ => None,
        }
    }

    /// Records that a read returned. Returns `true` if it brought the first byte of the connection.
    #[inline]
    pub(crate) fn read(&mut self, call: Option<Tick>, result: Result<usize, &io::Error>) -> bool {
        let Some(live) = &mut self.0 else { return false };
        let record = live.conn.record();
        if !record.end.is_open() {
            return false;
        }
        let first = live.received == 0;
        let mut is_first_byte = false;
        if let Ok(n) = result {
            live.received += n as u64;
            record.received.store(live.received, Relaxed);
            is_first_byte = n > 0 && record.first_byte.is_expected();
        }
        let now = (is_first_byte || record.log.is_some()).then(|| live.now());
        if is_first_byte && let Some(now) = now {
            record.first_byte.set(now);
        }
        live.op(OpKind::Read, call, now, result);
        first && live.received != 0
    }

    /// Records that a write returned.
    #[inline]
    pub(crate) fn write(&mut self, call: Option<Tick>, result: Result<usize, &io::Error>) {
        let Some(live) = &mut self.0 else { return };
        let record = live.conn.record();
        if !record.end.is_open() {
            return;
        }
        if let Ok(n) = result {
            live.sent += n as u64;
            record.sent.store(live.sent, Relaxed);
        }
        let now = record.log.is_some().then(|| live.now());
        live.op(OpKind::Write, call, now, result);
    }

    /// Records that the peer will send nothing more.
    #[inline]
    pub(crate) fn peer_closed(&mut self) {
        if let Some(live) = &mut self.0 {
            live.peer_closed = true;
            live.conn.record().peer_closed.store(true, Relaxed);
        }
    }

    /// Passes the socket to the probes.
    pub(crate) fn show(&self, event: ProbeEvent, socket: ProbeSocket<'_>) {
        if let Some(live) = &self.0 {
            show(&live.conn, event, socket);
        }
    }

    /// Returns what records the kernel's time stamps of the connection; `None` unless a probe has asked for them.
    #[cfg(all(feature = "timestamping", target_os = "linux"))]
    pub(crate) fn kernel_times(&self) -> Option<KernelTimesRecorder> {
        KernelTimesRecorder::of(self.conn_ref()?)
    }

    /// Lets the probes look at the socket later. Call [`take_back`](Self::take_back) before it is closed.
    #[cfg(any(feature = "resolve", feature = "server"))]
    pub(crate) fn lend(&self, socket: ProbeSocket<'_>) {
        #[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
        if let Some(live) = &self.0 {
            live.conn.lend(socket);
        }
        #[cfg(not(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux")))]
        let _ = (self, socket);
    }

    /// Keeps the probes from looking at the socket any more.
    pub(crate) fn take_back(&self) {
        #[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
        if let Some(live) = &self.0 {
            live.conn.take_back();
        }
    }

    /// Tells the probes that a connector of another crate made the connection. Its socket is not available.
    pub(crate) fn foreign_connected(&self) {
        self.tell(|probe, conn| probe.foreign_connected(conn));
    }

    /// Tells the probes that a connection of another crate's connector is about to be closed.
    pub(crate) fn foreign_closing(&self) {
        self.tell(|probe, conn| probe.foreign_closing(conn));
    }

    fn tell(&self, tell: impl Fn(&dyn Probe, &ConnRef)) {
        let Some(live) = &self.0 else { return };
        for probe in live.conn.group.core.probes() {
            catch_panic(|| tell(&**probe, &live.conn));
        }
    }

    /// Sets how the connection will have ended when the recorder is dropped, where the socket alone does not show it.
    #[cfg(feature = "resolve")]
    pub(crate) fn will_end(&mut self, reason: EndReason, failure: Option<(Failure, &'static str)>) {
        let Some(live) = &mut self.0 else { return };
        live.override_reason = Some(reason);
        if let Some((failure, text)) = failure {
            live.override_fault = Some(Box::new(FailureDetail::new(failure, text)));
        }
    }
}

impl Live {
    #[inline]
    fn now(&self) -> Tick {
        self.conn.group.core.now()
    }

    #[inline]
    fn log(&self) -> Option<&OpLog> {
        self.conn.record().log.as_ref()
    }

    #[inline]
    fn op(&mut self, kind: OpKind, call: Option<Tick>, ret: Option<Tick>, result: Result<usize, &io::Error>) {
        if let Err(error) = result {
            self.failed(error);
        }
        if let (Some(log), Some(ret)) = (&self.conn.record().log, ret) {
            self.writer.push(log, kind, call.unwrap_or(ret), ret, result);
        }
    }

    #[cold]
    fn failed(&mut self, error: &io::Error) {
        self.conn.record().first_error.get_or_init(|| Box::new(io_failure_detail(error)));
    }
}

impl Drop for ConnRecorder {
    fn drop(&mut self) {
        let Some(live) = self.0.take() else { return };
        let record = live.conn.record();
        let fault = live.override_fault.or_else(|| record.first_error.get().cloned());
        let observed = match (&fault, live.peer_closed) {
            (Some(_), _) => EndReason::Failed,
            (None, true) => EndReason::PeerClosed,
            (None, false) => EndReason::Closed,
        };
        // An error on the way to an intended close is still an error.
        let meant = record.close_reason.get().filter(|_| fault.is_none()).cloned();
        let reason = live.override_reason.or(meant).unwrap_or(observed);
        end(&live.conn, reason, fault.map(|fault| *fault));
    }
}

pub(in crate::sink) fn end(conn: &ConnRef, reason: EndReason, fault: Option<FailureDetail>) {
    let (group, record) = (&conn.group, conn.record());
    if !record.end.is_open() {
        return;
    }
    if record.end.end(group.core.now().max(record.latest()), &reason, fault) {
        group.record_ended();
        let kind = if record.is_udp() { RecordKind::UdpConn } else { RecordKind::TcpConn };
        if group.core.is_published(kind, &reason) {
            group.core.publish(|times| finished(conn, times));
        }
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
