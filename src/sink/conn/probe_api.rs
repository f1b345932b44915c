//! The methods of [`ConnRef`] for probes: what they ask of a connection, and what they write for it.

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
    /// The sink adds the time and the event. For each event the first reading is kept.
    pub fn tcp_info(&self, event: ProbeEvent, info: TcpInfo) {
        self.reading(event, || TcpInfoData::Parsed(Box::new(info)));
    }

    /// Stores a reading that is parsed when a trace is taken.
    #[cfg(all(feature = "tcp-info", target_os = "linux"))]
    pub(crate) fn raw_tcp_info(&self, event: ProbeEvent, raw: &RawTcpInfo) {
        self.reading(event, || TcpInfoData::Raw(raw.clone()));
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
