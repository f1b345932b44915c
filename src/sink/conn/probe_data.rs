//! Data that most TCP connections do not have: what probes found, the handshake with a SOCKS proxy, and what was read of
//! the HTTP.

#[cfg(all(feature = "timestamping", target_os = "linux"))]
use super::kernel_times::KernelTimesLog;
#[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
use super::lent_socket::LentSocket;
#[cfg(feature = "wire")]
use super::wire_facts::WireFacts;
use crate::{
    record::{IcmpError, TcpInfo, TcpInfoEvent},
    sink::{clock::Tick, proxy::record::SocksRecord, registry::end::End, snapshot::timeline::Timeline},
    sync::IgnorePoison,
};
use std::{
    collections::VecDeque,
    sync::{Mutex, OnceLock},
};

/// The data of a connection, allocated when the first of it is written. There is one reading each of the begin, of the
/// first byte and of the close, and there are the latest of requests that failed or stalled.
#[derive(Default)]
pub(in crate::sink) struct ProbeData {
    #[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
    pub(super) socket: LentSocket,
    pub(super) readings: [OnceLock<(Tick, Reading)>; 3],
    pub(super) requests: RequestReadings,
    pub(super) icmp_error: OnceLock<(Tick, IcmpError)>,
    pub(in crate::sink) socks: OnceLock<SocksRecord>,
    #[cfg(all(feature = "timestamping", target_os = "linux"))]
    pub(in crate::sink) kernel_times: OnceLock<Box<KernelTimesLog>>,
    #[cfg(feature = "wire")]
    pub(in crate::sink) wire: OnceLock<Box<WireFacts>>,
}

impl ProbeData {
    /// Returns the readings of `TCP_INFO`, oldest first.
    pub(in crate::sink) fn tcp_info(&self, end: Option<&End>, times: &Timeline) -> Vec<TcpInfo> {
        let readings = self.readings.iter().filter_map(|reading| before(end, reading));
        let mut infos: Vec<_> = readings.map(|(at, reading)| reading.export(*at, times)).collect();
        self.requests.export(end, times, &mut infos);
        infos
    }

    pub(in crate::sink) fn icmp_error(&self, end: Option<&End>) -> Option<&IcmpError> {
        before(end, &self.icmp_error).map(|(_, error)| error)
    }

    /// Returns the memory that the data takes, itself included.
    pub(in crate::sink) fn heap_bytes(&self) -> usize {
        let told = self.readings.iter().filter_map(OnceLock::get).map(|(_, reading)| reading.heap_bytes());
        let socks = self.socks.get().map_or(0, |socks| socks.heap_bytes());
        #[cfg(feature = "wire")]
        let wire = self.wire.get().map_or(0, |facts| facts.heap_bytes());
        #[cfg(not(feature = "wire"))]
        let wire = 0;
        #[cfg(all(feature = "timestamping", target_os = "linux"))]
        let kernel_times = self.kernel_times.get().map_or(0, |log| log.heap_bytes());
        #[cfg(not(all(feature = "timestamping", target_os = "linux")))]
        let kernel_times = 0;
        let probes = told.sum::<usize>() + self.requests.heap_bytes() + kernel_times;
        size_of::<ProbeData>() + probes + socks + wire
    }
}

pub(super) struct Reading {
    pub(super) event: TcpInfoEvent,
    pub(super) found: TcpInfoData,
}

impl Reading {
    fn export(&self, at: Tick, times: &Timeline) -> TcpInfo {
        TcpInfo { at: times.at(at), event: self.event.clone(), ..self.found.tcp_info() }
    }

    fn heap_bytes(&self) -> usize {
        match self.found {
            TcpInfoData::Parsed(_) => size_of::<TcpInfo>(),
            #[cfg(all(feature = "tcp-info", target_os = "linux"))]
            TcpInfoData::Raw(_) => 0,
        }
    }
}

/// The latest readings of requests that failed or stalled. Allocated for the first.
#[derive(Default)]
pub(super) struct RequestReadings(OnceLock<Box<LatestReadings>>);

type LatestReadings = Mutex<VecDeque<(Tick, Reading)>>;

/// How many of them are kept.
const MAX_REQUEST_READINGS: usize = 4;

impl RequestReadings {
    pub(super) fn push(&self, at: Tick, event: TcpInfoEvent, found: TcpInfoData) {
        let mut readings = self.0.get_or_init(Box::default).lock().ignore_poison();
        if readings.len() == MAX_REQUEST_READINGS {
            readings.pop_front();
        }
        readings.push_back((at, Reading { event, found }));
    }

    /// Adds the readings to `infos`, before that of the close.
    fn export(&self, end: Option<&End>, times: &Timeline, infos: &mut Vec<TcpInfo>) {
        let Some(readings) = self.0.get() else { return };
        let readings = readings.lock().ignore_poison();
        let known = readings.iter().filter(|(at, _)| is_before(end, *at));
        let place = infos.iter().position(|info| info.event == TcpInfoEvent::Closing).unwrap_or(infos.len());
        infos.splice(place..place, known.map(|(at, reading)| reading.export(*at, times)));
    }

    fn heap_bytes(&self) -> usize {
        let Some(readings) = self.0.get() else { return 0 };
        let readings = readings.lock().ignore_poison();
        let told = readings.iter().map(|(_, reading)| reading.heap_bytes());
        let own = size_of::<LatestReadings>();
        own + readings.capacity() * size_of::<(Tick, Reading)>() + told.sum::<usize>()
    }
}

#[cfg_attr(
    all(feature = "tcp-info", target_os = "linux"),
    expect(clippy::large_enum_variant, reason = "the large one is what there is as a rule")
)]
pub(super) enum TcpInfoData {
    Parsed(Box<TcpInfo>),
    #[cfg(all(feature = "tcp-info", target_os = "linux"))]
    Raw(RawTcpInfo),
}

/// A `struct tcp_info` as the kernel wrote it.
///
/// Most readings are never looked at: they are parsed when a trace is taken, by `read`. So the sink need not know the
/// kernel's layout, and storing one costs 8 instead of 12 µs for a connection (benches/README.md).
#[cfg(all(feature = "tcp-info", target_os = "linux"))]
#[derive(Clone)]
pub(crate) struct RawTcpInfo {
    pub(crate) bytes: [u8; RawTcpInfo::ROOM],
    pub(crate) len: u8,
    /// The name of the congestion control algorithm, padded with zeros.
    pub(crate) algorithm: [u8; 16],
    pub(crate) read: fn(&RawTcpInfo) -> TcpInfo,
}

#[cfg(all(feature = "tcp-info", target_os = "linux"))]
impl RawTcpInfo {
    /// The number of bytes whose fields are known here. Linux 6.18 has 280.
    pub(crate) const ROOM: usize = 248;

    /// Creates an empty reading, which `read` is to parse.
    pub(crate) fn empty(read: fn(&RawTcpInfo) -> TcpInfo) -> Self {
        RawTcpInfo { bytes: [0; RawTcpInfo::ROOM], len: 0, algorithm: [0; 16], read }
    }
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

/// Returns a value that was written before the end. Where another thread ended the connection at the same time, a later
/// value does not count.
fn before<'a, T>(end: Option<&End>, finding: &'a OnceLock<(Tick, T)>) -> Option<&'a (Tick, T)> {
    finding.get().filter(|(at, _)| is_before(end, *at))
}

fn is_before(end: Option<&End>, at: Tick) -> bool {
    end.is_none_or(|end| at <= end.at)
}
