//! What most TCP connections do not have: what probes find out and hand in, and the handshake with a SOCKS proxy.

use super::record::{ConnRecord, ConnRef};
use crate::{
    record::{IcmpError, TcpInfo, TcpInfoEvent},
    sink::{
        clock::Tick, core::Timeline, probe::ProbeEvent, proxy::recorder::SocksRecord, registry::end::End,
    },
};
use std::sync::OnceLock;

/// One reading of the begin, of the first byte and of the close; made when the first is handed in.
#[derive(Default)]
pub(in crate::sink) struct ProbeData {
    readings: [OnceLock<(Tick, Reading)>; 3],
    icmp_error: OnceLock<(Tick, IcmpError)>,
    pub(in crate::sink) socks: OnceLock<SocksRecord>,
}

impl ProbeData {
    /// The memory that they take, with their own place.
    pub(in crate::sink) fn heap_bytes(&self) -> usize {
        let told = self.readings.iter().filter_map(OnceLock::get).map(|(_, reading)| match reading.found {
            TcpInfoData::Parsed(_) => size_of::<TcpInfo>(),
            #[cfg(all(feature = "tcp-info", target_os = "linux"))]
            TcpInfoData::Raw(_) => 0,
        });
        let socks = self.socks.get().map_or(0, |socks| socks.heap_bytes());
        size_of::<ProbeData>() + told.sum::<usize>() + socks
    }
}

struct Reading {
    event: TcpInfoEvent,
    found: TcpInfoData,
}

#[cfg_attr(
    all(feature = "tcp-info", target_os = "linux"),
    expect(clippy::large_enum_variant, reason = "the large one is what there is as a rule")
)]
enum TcpInfoData {
    Parsed(Box<TcpInfo>),
    #[cfg(all(feature = "tcp-info", target_os = "linux"))]
    Raw(RawTcpInfo),
}

/// As the kernel wrote it: most of it is never looked at, and the rest is read when a trace is taken. How, the probe
/// says: the sink knows no struct of the kernel.
#[cfg(all(feature = "tcp-info", target_os = "linux"))]
pub(crate) struct RawTcpInfo {
    pub(crate) bytes: [u8; RawTcpInfo::ROOM],
    pub(crate) len: u8,
    /// The name of the algorithm of congestion control, and zeros.
    pub(crate) algorithm: [u8; 16],
    pub(crate) read: fn(&RawTcpInfo) -> TcpInfo,
}

#[cfg(all(feature = "tcp-info", target_os = "linux"))]
impl RawTcpInfo {
    /// As far as its fields are known here. Linux 6.18 has 280 bytes.
    pub(crate) const ROOM: usize = 248;
}

#[cfg(all(feature = "tcp-info", target_os = "linux"))]
const _: () = assert!(RawTcpInfo::ROOM <= u8::MAX as usize, "the length is a byte");

impl TcpInfoData {
    fn tcp_info(&self) -> TcpInfo {
        match self {
            TcpInfoData::Parsed(info) => TcpInfo::clone(info),
            #[cfg(all(feature = "tcp-info", target_os = "linux"))]
            TcpInfoData::Raw(raw) => (raw.read)(raw),
        }
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

impl ConnRecord {
    /// Readings of `TCP_INFO`, oldest first.
    pub(in crate::sink) fn tcp_info(
        &self,
        end: Option<&End>,
        times: &Timeline,
    ) -> impl Iterator<Item = TcpInfo> {
        let readings = self.probe_data.get().into_iter().flat_map(|probe_data| &probe_data.readings);
        readings.filter_map(move |reading| before(end, reading)).map(|(at, reading)| TcpInfo {
            at: times.at(*at),
            event: reading.event.clone(),
            ..reading.found.tcp_info()
        })
    }

    pub(in crate::sink) fn socks(&self) -> Option<&SocksRecord> {
        self.probe_data.get()?.socks.get()
    }

    pub(in crate::sink) fn icmp_error(&self, end: Option<&End>) -> Option<&IcmpError> {
        let (_, error) = before(end, &self.probe_data.get()?.icmp_error)?;
        Some(error)
    }
}

/// What came after the end, of which another thread knew first, does not count.
fn before<'a, T>(end: Option<&End>, finding: &'a OnceLock<(Tick, T)>) -> Option<&'a (Tick, T)> {
    finding.get().filter(|(at, _)| end.is_none_or(|end| *at <= end.at))
}
