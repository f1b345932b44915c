//! The methods of [`ConnRef`] for probes: what they ask of a connection, and what they write for it.

#[cfg(all(feature = "timestamping", target_os = "linux"))]
use super::kernel_times::KernelTimesLog;
#[cfg(all(feature = "tcp-info", target_os = "linux"))]
use super::probe_data::RawTcpInfo;
use super::{
    conn_ref::ConnRef,
    probe_data::{ProbeData, Reading, TcpInfoData},
};
#[cfg(all(feature = "conntrack", target_os = "linux"))]
use crate::record::EndReason;
#[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
use crate::sink::{conn::recorder::show, probe::ProbeSocket};
use crate::{
    record::{ConntrackEntry, IcmpError, TcpInfo, TcpInfoEvent},
    sink::{
        clock::Tick,
        probe::{ProbeEvent, catch_panic},
    },
};
#[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
use std::os::fd::AsFd;

impl ConnRef {
    /// Stores the entry that a [`Probe`](crate::sink::Probe) found in the kernel's connection tracking, in place of an
    /// earlier one.
    ///
    /// Its `captured_at` becomes the present time. Also works for a connection that has ended. The sink's probes are
    /// [told](crate::sink::Probe::conntrack).
    pub fn conntrack(&self, entry: ConntrackEntry) {
        // Not `core.probes()`: the probe of this crate asks the kernel a last time while the sink is closed.
        for probe in &self.group.core.config.probes {
            catch_panic(|| probe.conntrack(self, &entry));
        }
        self.record().conntrack.put(self.group.core.now(), entry);
    }

    /// Records that the kernel's connection tracking does not have the entry of this connection any more
    /// ([`ConntrackEntry::lost_at`]). Does nothing if the connection has no entry stored, or has ended.
    pub fn conntrack_lost(&self) {
        let record = self.record();
        if record.end.is_open() {
            record.conntrack.lose(self.group.core.now());
        }
    }

    /// Returns `true` for a UDP socket, `false` for a TCP connection.
    pub fn is_udp(&self) -> bool {
        self.record().is_udp()
    }
}

/// The questions of the conntrack probe of this crate.
#[cfg(all(feature = "conntrack", target_os = "linux"))]
impl ConnRef {
    /// Passes the stored entry to `look`; returns `None` if there is none.
    pub(crate) fn known_conntrack<R>(&self, look: impl FnOnce(&ConntrackEntry) -> R) -> Option<R> {
        self.record().conntrack.with(look)
    }

    /// Returns `true` if the connection has not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.record().end.is_open()
    }

    /// Returns `true` if the sink is closed: it is not recorded any more how the connection ends.
    pub(crate) fn is_of_closed_sink(&self) -> bool {
        self.group.core.is_closed()
    }

    /// Returns `true` if a packet was sent.
    pub(crate) fn was_used(&self) -> bool {
        let record = self.record();
        !record.is_udp() || record.totals().0 > 0
    }

    /// Returns `true` if the connection ended because an answer did not come in time.
    pub(crate) fn timed_out(&self) -> bool {
        self.record().end.get().is_some_and(|end| end.reason == EndReason::Timeout)
    }

    /// Returns `true` if a packet came from the peer.
    pub(crate) fn was_answered(&self) -> bool {
        let record = self.record();
        if record.is_udp() { record.totals().1 > 0 } else { record.established().is_some() }
    }
}

impl ConnRef {
    /// Stores what the kernel knows of the connection (`TCP_INFO`).
    ///
    /// The sink adds the time and the event. For each event the first reading is kept; of those about requests
    /// ([`RequestFailed`](ProbeEvent::RequestFailed), [`Stalled`](ProbeEvent::Stalled)) the latest four.
    pub fn tcp_info(&self, event: ProbeEvent, info: TcpInfo) {
        self.reading(event, || TcpInfoData::Parsed(Box::new(info)));
    }

    /// Stores a reading that is parsed when a trace is taken.
    #[cfg(all(feature = "tcp-info", target_os = "linux"))]
    pub(crate) fn raw_tcp_info(&self, event: ProbeEvent, raw: &RawTcpInfo) {
        self.reading(event, || TcpInfoData::Raw(raw.clone()));
    }

    fn reading(&self, event: ProbeEvent, found: impl FnOnce() -> TcpInfoData) {
        let Some((now, probe_data)) = self.probe_data() else { return };
        let (place, event) = match event {
            ProbeEvent::Connected => (0, TcpInfoEvent::Connected),
            ProbeEvent::ConnectFailed => (0, TcpInfoEvent::ConnectFailed),
            ProbeEvent::FirstByte => (1, TcpInfoEvent::FirstByte),
            ProbeEvent::Closing => (2, TcpInfoEvent::Closing),
            ProbeEvent::RequestFailed => {
                return probe_data.requests.push(now, TcpInfoEvent::RequestFailed, found());
            }
            ProbeEvent::Stalled => return probe_data.requests.push(now, TcpInfoEvent::Stalled, found()),
        };
        probe_data.readings[place].get_or_init(|| (now, Reading { event, found: found() }));
    }

    /// Stores the ICMP error that came in reply to the handshake.
    ///
    /// The first one is kept. It becomes a part of the text of the handshake's failure.
    pub fn icmp_error(&self, error: IcmpError) {
        if let Some((now, probe_data)) = self.probe_data() {
            let _ = probe_data.icmp_error.set((now, error));
        }
    }

    /// Returns `true` if the peer made the connection.
    #[cfg(any(all(unix, feature = "capture"), all(feature = "tcp-info", target_os = "linux")))]
    pub(crate) fn was_accepted(&self) -> bool {
        self.record().accepted
    }

    /// Returns the present time and the place for probe data; `None` once the connection has ended.
    pub(in crate::sink) fn probe_data(&self) -> Option<(Tick, &ProbeData)> {
        let record = Some(self.record()).filter(|record| !record.is_udp() && record.end.is_open())?;
        let now = self.group.core.now().max(record.latest());
        Some((now, record.probe_data.get_or_init(|| self.group.core.probe_data_alloc.take(Box::default))))
    }
}

/// The time stamps of the kernel.
#[cfg(all(feature = "timestamping", target_os = "linux"))]
impl ConnRef {
    /// Has the kernel's time stamps taken of the connection: of at most `max` writes and as many reads.
    ///
    /// To be called when the connection is established, before anything is read or written.
    pub(crate) fn take_kernel_times(&self, max: usize) {
        if let Some((_, probe_data)) = self.probe_data() {
            probe_data.kernel_times.get_or_init(|| Box::new(KernelTimesLog::new(max)));
        }
    }

    pub(super) fn kernel_times_log(&self) -> Option<&KernelTimesLog> {
        self.record().probe_data.get()?.kernel_times.get().map(|log| &**log)
    }

    /// Returns `true` if it leads to a nameserver and serves a single lookup.
    pub(crate) fn is_of_lookup(&self) -> bool {
        self.record().from_resolver
    }
}

/// Probes that look at a connection while its owner does not.
#[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
impl ConnRef {
    /// Lets the probes look at the socket from now on. See [`LentSocket::lend`](super::lent_socket::LentSocket::lend).
    pub(super) fn lend(&self, socket: ProbeSocket<'_>) {
        if !self.group.core.probes().is_empty()
            && let Some((_, probe_data)) = self.probe_data()
        {
            probe_data.socket.lend(socket);
        }
    }

    pub(super) fn take_back(&self) {
        if let Some(probe_data) = self.record().probe_data.get() {
            probe_data.socket.take_back();
        }
    }

    /// Has the probes look at the socket because of a request on the connection, if it is still there.
    pub(in crate::sink) fn show_for_request(&self, event: ProbeEvent) {
        let probes = self.group.core.probes();
        if probes.is_empty() {
            return;
        }
        let socket = self.record().probe_data.get().and_then(|data| data.socket.duplicate());
        if let Some(socket) = socket {
            show(self, event, socket.as_fd());
        }
    }
}
