//! Data that most TCP connections do not have: what probes found, the handshake with a SOCKS proxy, and what was read of
//! the HTTP.

#[cfg(feature = "wire")]
use super::wire_facts::WireFacts;
use crate::{
    record::{IcmpError, TcpInfo, TcpInfoEvent},
    sink::{clock::Tick, proxy::record::SocksRecord, registry::end::End, snapshot::timeline::Timeline},
};
use std::sync::OnceLock;

/// The data of a connection, allocated when the first of it is written. There is one reading each of the begin, of the
/// first byte and of the close.
#[derive(Default)]
pub(in crate::sink) struct ProbeData {
    pub(super) readings: [OnceLock<(Tick, Reading)>; 3],
    pub(super) icmp_error: OnceLock<(Tick, IcmpError)>,
    pub(in crate::sink) socks: OnceLock<SocksRecord>,
    #[cfg(feature = "wire")]
    pub(in crate::sink) wire: OnceLock<Box<WireFacts>>,
}

impl ProbeData {
    /// Returns the readings of `TCP_INFO`, oldest first.
    pub(in crate::sink) fn tcp_info(
        &self,
        end: Option<&End>,
        times: &Timeline,
    ) -> impl Iterator<Item = TcpInfo> {
        let readings = self.readings.iter().filter_map(move |reading| before(end, reading));
        readings.map(|(at, reading)| TcpInfo {
            at: times.at(*at),
            event: reading.event.clone(),
            ..reading.found.tcp_info()
        })
    }

    pub(in crate::sink) fn icmp_error(&self, end: Option<&End>) -> Option<&IcmpError> {
        before(end, &self.icmp_error).map(|(_, error)| error)
    }

    /// Returns the memory that the data takes, itself included.
    pub(in crate::sink) fn heap_bytes(&self) -> usize {
        let told = self.readings.iter().filter_map(OnceLock::get).map(|(_, reading)| match reading.found {
            TcpInfoData::Parsed(_) => size_of::<TcpInfo>(),
            #[cfg(all(feature = "tcp-info", target_os = "linux"))]
            TcpInfoData::Raw(_) => 0,
        });
        let socks = self.socks.get().map_or(0, |socks| socks.heap_bytes());
        #[cfg(feature = "wire")]
        let wire = self.wire.get().map_or(0, |facts| facts.heap_bytes());
        #[cfg(not(feature = "wire"))]
        let wire = 0;
        size_of::<ProbeData>() + told.sum::<usize>() + socks + wire
    }
}

pub(super) struct Reading {
    pub(super) event: TcpInfoEvent,
    pub(super) found: TcpInfoData,
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
    finding.get().filter(|(at, _)| end.is_none_or(|end| *at <= end.at))
}
