//! What a probe asks of a connection, and writes down for it.

#[cfg(all(feature = "tcp-info", target_os = "linux"))]
use super::probe_data::RawTcpInfo;
use super::{
    conn_ref::ConnRef,
    probe_data::{ProbeData, Reading, TcpInfoData},
};
#[cfg(all(feature = "conntrack", target_os = "linux"))]
use crate::record::EndReason;
use crate::{
    record::{ConntrackEntry, IcmpError, TcpInfo, TcpInfoEvent},
    sink::{
        clock::Tick,
        probe::{ProbeEvent, catch_panic},
    },
};

impl ConnRef {
    /// Keeps what a [`Probe`](crate::sink::Probe) found in the kernel's connection tracking, in place of what was kept
    /// before. Its `captured_at` becomes the present time. Also for a connection that has ended. The sink's probes
    /// are [told](crate::sink::Probe::conntrack).
    pub fn conntrack(&self, entry: ConntrackEntry) {
        // Also while the sink is closed, when it is asked for the last time.
        for probe in &self.group.core.config.probes {
            catch_panic(|| probe.conntrack(self, &entry));
        }
        self.record().conntrack.put(self.group.core.now(), entry);
    }

    /// Whether this is a UDP socket and not a TCP connection.
    pub fn is_udp(&self) -> bool {
        self.record().is_udp()
    }
}

/// What the probe of this crate asks.
#[cfg(all(feature = "conntrack", target_os = "linux"))]
impl ConnRef {
    /// Looks at the entry that is kept.
    pub(crate) fn known_conntrack<R>(&self, look: impl FnOnce(&ConntrackEntry) -> R) -> Option<R> {
        self.record().conntrack.with(look)
    }

    /// Whether it has not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.record().end.is_open()
    }

    /// Whether nobody says any more what becomes of it.
    pub(crate) fn is_of_closed_sink(&self) -> bool {
        self.group.core.is_closed()
    }

    /// Whether a packet was sent.
    pub(crate) fn was_used(&self) -> bool {
        let record = self.record();
        !record.is_udp() || record.totals().0 > 0
    }

    /// Whether it ended for want of an answer.
    pub(crate) fn timed_out(&self) -> bool {
        self.record().end.get().is_some_and(|end| end.reason == EndReason::Timeout)
    }

    /// Whether a packet came from the peer.
    pub(crate) fn was_answered(&self) -> bool {
        let record = self.record();
        if record.is_udp() { record.totals().1 > 0 } else { record.established().is_some() }
    }
}

impl ConnRef {
    /// Writes down what the kernel knows of the connection. The sink says when and on what event; the first reading
    /// of each event is kept.
    pub fn tcp_info(&self, event: ProbeEvent, info: TcpInfo) {
        self.reading(event, || TcpInfoData::Parsed(Box::new(info)));
    }

    /// The same of what is to be read later.
    #[cfg(all(feature = "tcp-info", target_os = "linux"))]
    pub(crate) fn raw_tcp_info(&self, event: ProbeEvent, raw: RawTcpInfo) {
        self.reading(event, || TcpInfoData::Raw(raw));
    }

    fn reading(&self, event: ProbeEvent, found: impl FnOnce() -> TcpInfoData) {
        let (place, event) = match event {
            ProbeEvent::Connected => (0, TcpInfoEvent::Connected),
            ProbeEvent::ConnectFailed => (0, TcpInfoEvent::ConnectFailed),
            ProbeEvent::FirstByte => (1, TcpInfoEvent::FirstByte),
            ProbeEvent::Closing => (2, TcpInfoEvent::Closing),
        };
        if let Some((now, probe_data)) = self.probe_data() {
            probe_data.readings[place].get_or_init(|| (now, Reading { event, found: found() }));
        }
    }

    /// Writes down the ICMP error that came in reply to the handshake. The first is kept. It becomes a part of the
    /// text of the handshake's failure.
    pub fn icmp_error(&self, error: IcmpError) {
        if let Some((now, probe_data)) = self.probe_data() {
            let _ = probe_data.icmp_error.set((now, error));
        }
    }

    /// Whether the peer made it.
    #[cfg(any(all(unix, feature = "capture"), all(feature = "tcp-info", target_os = "linux")))]
    pub(crate) fn was_accepted(&self) -> bool {
        self.record().accepted
    }

    /// `None` once the connection has ended.
    pub(in crate::sink) fn probe_data(&self) -> Option<(Tick, &ProbeData)> {
        let record = Some(self.record()).filter(|record| !record.is_udp() && record.end.is_open())?;
        let now = self.group.core.now().max(record.latest());
        Some((now, record.probe_data.get_or_init(|| self.group.core.probe_data_alloc.take(Box::default))))
    }
}
