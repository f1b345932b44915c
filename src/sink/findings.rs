//! What most TCP connections do not have: what probes find out and hand in, and the handshake with a SOCKS proxy.

use super::{
    clock::Tick,
    conn::{ConnRecord, ConnRef},
    core::Timeline,
    end::End,
    probe::ProbeEvent,
    proxy::SocksRecord,
};
use crate::record::{IcmpError, TcpInfo, TcpInfoEvent};
use std::sync::OnceLock;

/// One reading of the begin, of the first byte and of the close; made when the first is handed in.
#[derive(Default)]
pub(super) struct Findings {
    readings: [OnceLock<(Tick, TcpInfo)>; 3],
    icmp_error: OnceLock<(Tick, IcmpError)>,
    pub(super) socks: OnceLock<SocksRecord>,
}

impl ConnRef {
    /// Writes down what the kernel knows of the connection. The sink says when and on what event; the first reading
    /// of each event is kept.
    pub fn tcp_info(&self, event: ProbeEvent, mut info: TcpInfo) {
        let (place, event) = match event {
            ProbeEvent::Connected => (0, TcpInfoEvent::Connected),
            ProbeEvent::ConnectFailed => (0, TcpInfoEvent::ConnectFailed),
            ProbeEvent::FirstByte => (1, TcpInfoEvent::FirstByte),
            ProbeEvent::Closing => (2, TcpInfoEvent::Closing),
        };
        info.event = event;
        if let Some((now, findings)) = self.findings() {
            let _ = findings.readings[place].set((now, info));
        }
    }

    /// Writes down the ICMP error that came in reply to the handshake. The first is kept. It becomes a part of the
    /// text of the handshake's failure.
    pub fn icmp_error(&self, error: IcmpError) {
        if let Some((now, findings)) = self.findings() {
            let _ = findings.icmp_error.set((now, error));
        }
    }

    /// Whether the peer made it.
    #[cfg(any(all(unix, feature = "capture"), all(feature = "tcp-info", target_os = "linux")))]
    pub(crate) fn was_accepted(&self) -> bool {
        self.record().accepted
    }

    /// `None` once the connection has ended.
    pub(super) fn findings(&self) -> Option<(Tick, &Findings)> {
        let record = Some(self.record()).filter(|record| !record.is_udp() && record.end.is_open())?;
        let now = self.group.core.now().max(record.latest());
        Some((now, record.findings.get_or_init(Box::default)))
    }
}

impl ConnRecord {
    /// Readings of `TCP_INFO`, oldest first.
    pub(super) fn tcp_info(&self, end: Option<&End>, times: &Timeline) -> impl Iterator<Item = TcpInfo> {
        let readings = self.findings.get().into_iter().flat_map(|findings| &findings.readings);
        readings
            .filter_map(move |reading| before(end, reading))
            .map(|(at, info)| TcpInfo { at: times.at(*at), ..info.clone() })
    }

    pub(super) fn socks(&self) -> Option<&SocksRecord> {
        self.findings.get()?.socks.get()
    }

    pub(super) fn icmp_error(&self, end: Option<&End>) -> Option<&IcmpError> {
        let (_, error) = before(end, &self.findings.get()?.icmp_error)?;
        Some(error)
    }
}

/// What came after the end, of which another thread knew first, does not count.
fn before<'a, T>(end: Option<&End>, finding: &'a OnceLock<(Tick, T)>) -> Option<&'a (Tick, T)> {
    finding.get().filter(|(at, _)| end.is_none_or(|end| *at <= end.at))
}
