//! Reads `TCP_INFO` at the begin and at the close of each TCP connection, when a request on it fails or stalls, and at its
//! first byte if asked to.
//!
//! A reading is kept as the kernel wrote it, and parsed when a trace is taken.

use super::icmp;
use crate::{
    ConnRef, Probe, ProbeEvent, ProbeSocket,
    record::{CongestionState, TcpInfo, TcpInfoState, Text},
    sink::RawTcpInfo,
};
use std::{net::SocketAddr, os::fd::AsRawFd};
use uapi::c::{IPPROTO_TCP, TCP_CONGESTION, TCP_INFO};

/// A probe that reads what the kernel knows of each TCP connection: round-trip times, retransmissions, losses, windows
/// and rates, as `ss -ti` shows them.
///
/// It reads when a connection is established, when a request on it fails, times out or is given up, and when it is about
/// to be closed; with [`first_byte`](Self::first_byte) also when its first byte has come, and with
/// [`stalled_after`](crate::TraceSinkBuilder::stalled_after) when a request makes no progress (`tcpInfo` of its record).
/// For a failed attempt it shows how many SYNs were sent again, and, on Linux 5.9 or newer, which router or host refused
/// it with an ICMP error (`icmpError`, and in the text of the failure).
///
/// It sees the connections that `TcpConnector` and the resolver make, and those that `TraceListener` accepts. A reading
/// takes less than a microsecond, on the path of the traffic. No privilege is needed.
///
/// ```
/// use nettrace::{TraceSink, linux::TcpInfoProbe};
///
/// let sink = TraceSink::builder().probe(TcpInfoProbe::new()).build();
/// ```
#[derive(Clone, Debug)]
pub struct TcpInfoProbe {
    icmp_errors: bool,
    first_byte: bool,
}

impl TcpInfoProbe {
    /// Creates a probe that reads `TCP_INFO`, and the ICMP errors of failed attempts.
    pub fn new() -> Self {
        TcpInfoProbe { icmp_errors: true, first_byte: false }
    }

    /// Sets whether to read the ICMP errors of failed attempts. On by default.
    ///
    /// Over IPv6 this sets the socket option `IPV6_RECVERR` for the time of the handshake.
    pub fn icmp_errors(mut self, on: bool) -> Self {
        self.icmp_errors = on;
        self
    }

    /// Sets whether to read `TCP_INFO` also when the first byte of a connection has come. Off by default, because it is
    /// a third system call for each connection.
    ///
    /// This reading shows what was sent again before the first response came, even if the connection stays open.
    pub fn first_byte(mut self, on: bool) -> Self {
        self.first_byte = on;
        self
    }
}

impl Default for TcpInfoProbe {
    fn default() -> Self {
        TcpInfoProbe::new()
    }
}

impl Probe for TcpInfoProbe {
    fn connecting(&self, socket: ProbeSocket<'_>, remote: SocketAddr) {
        if self.icmp_errors {
            icmp::set_enabled(socket, remote, true);
        }
    }

    fn event(&self, conn: &ConnRef, event: ProbeEvent, socket: ProbeSocket<'_>) {
        if conn.is_udp() || (event == ProbeEvent::FirstByte && !self.first_byte) {
            return;
        }
        if self.icmp_errors {
            match (event, conn.peer_addr()) {
                // The option of an accepted socket is what the program has set for the listening one.
                (ProbeEvent::Connected, Some(remote)) if !conn.was_accepted() => {
                    icmp::set_enabled(socket, remote, false);
                }
                (ProbeEvent::ConnectFailed, _) => {
                    icmp::take_last(socket).into_iter().for_each(|error| conn.icmp_error(error));
                }
                _ => {}
            }
        }
        let mut raw = RawTcpInfo::empty(read);
        if fill(&mut raw, socket).is_some() {
            if event == ProbeEvent::Connected {
                raw.algorithm = algorithm(socket);
            }
            conn.raw_tcp_info(event, &raw);
        }
    }
}

/// Reads `TCP_INFO` into `raw`, which is a third of a kilobyte and therefore filled where it is. Returns `None` if the
/// socket has none.
fn fill(raw: &mut RawTcpInfo, socket: ProbeSocket<'_>) -> Option<()> {
    let len = uapi::getsockopt(socket.as_raw_fd(), IPPROTO_TCP, TCP_INFO, &mut raw.bytes[..]).ok()?;
    raw.len = u8::try_from(len).ok()?;
    Some(())
}

/// Returns the name of the congestion control algorithm (`TCP_CA_NAME_MAX` bytes); zeros where the kernel does not say.
fn algorithm(socket: ProbeSocket<'_>) -> [u8; 16] {
    let mut name = [0; 16];
    let _ = uapi::getsockopt(socket.as_raw_fd(), IPPROTO_TCP, TCP_CONGESTION, &mut name[..]);
    name
}

fn read(raw: &RawTcpInfo) -> TcpInfo {
    let info = parse(raw.bytes.get(..raw.len.into()).unwrap_or_default());
    let name = raw.algorithm.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty());
    TcpInfo { congestion_control: name.map(Text::from), ..info }
}

/// Parses as much of `struct tcp_info` as there is: older kernels have less of it, newer ones more.
fn parse(bytes: &[u8]) -> TcpInfo {
    let at = Fields(bytes);
    let scales = at.u8(6).map(if cfg!(target_endian = "little") {
        |scales| (scales & 0xf, scales >> 4)
    } else {
        |scales| (scales >> 4, scales & 0xf)
    });
    let app_limited = if cfg!(target_endian = "little") { 0x01 } else { 0x80 };
    // Before the first measurement the deviation is a guess, and the times since the last segments mean nothing.
    let rtt = at.u32(68).filter(|rtt| *rtt != 0);
    let delivery_rate = at.u64(160);

    TcpInfo {
        state: at.u8(0).map(state),
        congestion_state: at.u8(1).map(congestion_state),
        retransmits: at.u8(2),
        probes: at.u8(3),
        backoff: at.u8(4),
        snd_wscale: scales.map(|(snd, _)| snd),
        rcv_wscale: scales.map(|(_, rcv)| rcv),
        // Padding in kernels that do not know the rate.
        app_limited: at.u8(7).filter(|_| delivery_rate.is_some()).map(|bits| bits & app_limited != 0),
        rto_us: at.u32(8),
        ato_us: at.u32(12),
        snd_mss: at.u32(16),
        rcv_mss: at.u32(20),
        unacked: at.u32(24),
        sacked: at.u32(28),
        lost: at.u32(32),
        retrans: at.u32(36),
        last_data_sent_ms: rtt.and(at.u32(44)),
        last_data_recv_ms: rtt.and(at.u32(52)),
        last_ack_recv_ms: rtt.and(at.u32(56)),
        pmtu: at.u32(60),
        rcv_ssthresh: at.u32(64),
        rtt_us: rtt,
        rttvar_us: rtt.and(at.u32(72)),
        snd_ssthresh: at.u32(76).filter(|threshold| *threshold < INFINITE_SSTHRESH),
        snd_cwnd: at.u32(80),
        advmss: at.u32(84),
        reordering: at.u32(88),
        rcv_rtt_us: at.u32(92).filter(|rtt| *rtt != 0),
        rcv_space: at.u32(96),
        total_retrans: at.u32(100),
        pacing_rate: at.u64(104).filter(|rate| *rate != u64::MAX),
        max_pacing_rate: at.u64(112).filter(|rate| *rate != u64::MAX),
        bytes_acked: at.u64(120),
        bytes_received: at.u64(128),
        segs_out: at.u32(136),
        segs_in: at.u32(140),
        notsent_bytes: at.u32(144),
        min_rtt_us: at.u32(148).filter(|rtt| *rtt != u32::MAX),
        data_segs_in: at.u32(152),
        data_segs_out: at.u32(156),
        delivery_rate,
        busy_time_us: at.u64(168),
        rwnd_limited_us: at.u64(176),
        sndbuf_limited_us: at.u64(184),
        delivered: at.u32(192),
        delivered_ce: at.u32(196),
        bytes_sent: at.u64(200),
        bytes_retrans: at.u64(208),
        dsack_dups: at.u32(216),
        reord_seen: at.u32(220),
        rcv_ooopack: at.u32(224),
        snd_wnd: at.u32(228),
        rcv_wnd: at.u32(232),
        rehash: at.u32(236),
        total_rto: at.u16(240),
        total_rto_recoveries: at.u16(242),
        total_rto_time_ms: at.u32(244),
        ..TcpInfo::default()
    }
}

/// `TCP_INFINITE_SSTHRESH` of the kernel's `net/tcp.h`.
const INFINITE_SSTHRESH: u32 = 0x7fff_ffff;

/// Returns the state with this number in the kernel's `net/tcp_states.h`.
fn state(number: u8) -> TcpInfoState {
    match number {
        1 => TcpInfoState::Established,
        2 => TcpInfoState::SynSent,
        3 | 12 => TcpInfoState::SynRecv,
        4 => TcpInfoState::FinWait1,
        5 => TcpInfoState::FinWait2,
        6 => TcpInfoState::TimeWait,
        7 => TcpInfoState::Close,
        8 => TcpInfoState::CloseWait,
        9 => TcpInfoState::LastAck,
        10 => TcpInfoState::Listen,
        11 => TcpInfoState::Closing,
        other => TcpInfoState::Other(Text::from(other.to_string()).into()),
    }
}

/// Returns the state with this number in `enum tcp_ca_state` of the kernel's `linux/tcp.h`.
fn congestion_state(number: u8) -> CongestionState {
    match number {
        0 => CongestionState::Open,
        1 => CongestionState::Disorder,
        2 => CongestionState::Cwr,
        3 => CongestionState::Recovery,
        4 => CongestionState::Loss,
        other => CongestionState::Other(Text::from(other.to_string()).into()),
    }
}

/// The fields of a struct in the byte order of this machine, by their offsets. A field that is cut off is `None`.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u8(&self, offset: usize) -> Option<u8> {
        self.0.get(offset).copied()
    }

    fn u16(&self, offset: usize) -> Option<u16> {
        self.bytes(offset).map(u16::from_ne_bytes)
    }

    fn u32(&self, offset: usize) -> Option<u32> {
        self.bytes(offset).map(u32::from_ne_bytes)
    }

    fn u64(&self, offset: usize) -> Option<u64> {
        self.bytes(offset).map(u64::from_ne_bytes)
    }

    fn bytes<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.0.get(offset..)?.first_chunk().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{
        io::{Read, Write},
        net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
        os::fd::AsFd,
    };

    /// Returns a struct in which every byte of a field is the offset of the field, except where bits have a meaning.
    fn offsets_as_values() -> [u8; 280] {
        let mut bytes = [0; 280];
        let fields = (8..104).step_by(4).map(|offset| (offset, 4));
        let fields = fields.chain((104..136).step_by(8).map(|offset| (offset, 8)));
        let fields = fields.chain((136..160).step_by(4).map(|offset| (offset, 4)));
        let fields = fields.chain((160..192).step_by(8).map(|offset| (offset, 8)));
        let fields = fields.chain([192, 196].map(|offset| (offset, 4)));
        let fields = fields.chain([200, 208].map(|offset| (offset, 8)));
        let fields = fields.chain((216..240).step_by(4).map(|offset| (offset, 4)));
        let fields = fields.chain([(240, 2), (242, 2), (244, 4)]);
        for (offset, len) in fields {
            bytes[offset..offset + len].fill(offset as u8);
        }
        bytes[76] &= 0x7e; // below infinity
        bytes[79] &= 0x7e;
        bytes[..8].copy_from_slice(&[1, 4, 2, 3, 5, 0, 0x97, 0xff]);
        bytes
    }

    fn word(offset: u8) -> Option<u32> {
        Some(u32::from_ne_bytes([offset; 4]))
    }

    fn long(offset: u8) -> Option<u64> {
        Some(u64::from_ne_bytes([offset; 8]))
    }

    #[test]
    fn each_field_is_read_from_its_offset() {
        let info = parse(&offsets_as_values());
        assert_eq!(info.state, Some(TcpInfoState::Established));
        assert_eq!(info.congestion_state, Some(CongestionState::Loss));
        assert_eq!((info.retransmits, info.probes, info.backoff), (Some(2), Some(3), Some(5)));
        if cfg!(target_endian = "little") {
            assert_eq!((info.snd_wscale, info.rcv_wscale), (Some(7), Some(9)));
        }
        assert_eq!(info.app_limited, Some(true));
        assert_eq!((info.rto_us, info.pmtu, info.lost), (word(8), word(60), word(32)));
        assert_eq!((info.rtt_us, info.rttvar_us, info.min_rtt_us), (word(68), word(72), word(148)));
        assert_eq!((info.retrans, info.total_retrans, info.reordering), (word(36), word(100), word(88)));
        assert_eq!((info.snd_mss, info.rcv_mss, info.snd_cwnd), (word(16), word(20), word(80)));
        assert_eq!((info.pacing_rate, info.delivery_rate), (long(104), long(160)));
        assert_eq!((info.bytes_acked, info.bytes_received), (long(120), long(128)));
        assert_eq!((info.bytes_sent, info.bytes_retrans), (long(200), long(208)));
        assert_eq!((info.busy_time_us, info.rwnd_limited_us), (long(168), long(176)));
        assert_eq!((info.sndbuf_limited_us, info.delivered), (long(184), word(192)));
        assert_eq!((info.snd_wnd, info.rcv_wnd, info.rehash), (word(228), word(232), word(236)));
        assert_eq!((info.total_rto, info.total_rto_time_ms), (Some(0xf0f0), word(244)));
        let json = serde_json::to_value(&info).unwrap();
        // All fields but the name of the algorithm.
        assert_eq!(json.as_object().unwrap().len(), 59);
    }

    /// The lengths of the struct in Linux 2.6.18, 3.15, 4.1, 4.2, 4.6, 4.9, 4.10, 4.18, 4.19, 5.4, 6.2, 6.7.
    #[test]
    fn fields_that_an_older_kernel_lacks_are_absent() {
        let mut counts = Vec::new();
        for len in [104, 120, 136, 144, 160, 168, 192, 200, 224, 232, 240, 248] {
            let info = serde_json::to_value(parse(&offsets_as_values()[..len])).unwrap();
            counts.push(info.as_object().unwrap().len());
        }
        assert_eq!(counts, [31, 33, 35, 37, 41, 43, 46, 48, 52, 54, 56, 59]);
        assert_eq!(parse(&offsets_as_values()[..72]).rttvar_us, None);
        assert_eq!(parse(&offsets_as_values()[..71]).rtt_us, None);
        assert_eq!(parse(&[]), TcpInfo::default());
    }

    #[test]
    fn values_for_unknown_or_unlimited_are_absent() {
        let mut bytes = offsets_as_values();
        bytes[68..72].fill(0);
        bytes[76..80].copy_from_slice(&INFINITE_SSTHRESH.to_ne_bytes());
        bytes[92..96].fill(0);
        bytes[104..120].fill(0xff);
        bytes[148..152].fill(0xff);
        let info = parse(&bytes);
        assert_eq!((info.rtt_us, info.rttvar_us, info.min_rtt_us, info.rcv_rtt_us), (None, None, None, None));
        assert_eq!((info.snd_ssthresh, info.pacing_rate, info.max_pacing_rate), (None, None, None));
    }

    proptest! {
        #[test]
        fn any_bytes_of_any_length_are_parsed(bytes in prop::collection::vec(any::<u8>(), 0..RawTcpInfo::ROOM + 64)) {
            let info = parse(&bytes);
            prop_assert_eq!(info.state.is_some(), !bytes.is_empty());
            prop_assert_eq!(info.total_retrans.is_some(), bytes.len() >= 104);
            // A longer struct begins with the same fields.
            let longer = [&bytes[..], &[0xa5; 64]].concat();
            if bytes.len() >= 248 {
                prop_assert_eq!(parse(&longer), info);
            }
        }
    }

    #[test]
    fn the_running_kernel_has_the_fields() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(&[7; 1000]).unwrap();
        stream.read_exact(&mut [0; 1000]).unwrap();
        let mut raw = RawTcpInfo::empty(read);
        fill(&mut raw, stream.as_fd()).unwrap();
        raw.algorithm = algorithm(stream.as_fd());
        let info = read(&raw);
        assert_eq!(info.state, Some(TcpInfoState::Established));
        assert!(
            info.rtt_us.is_some() && info.snd_mss > Some(500) && info.total_retrans == Some(0),
            "{info:?}"
        );
        assert!(info.bytes_received.is_none_or(|bytes| bytes == 1000), "{info:?}");
        let algorithm = info.congestion_control.unwrap();
        assert!(!algorithm.is_empty() && !algorithm.contains('\0'));

        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(fill(&mut raw, udp.as_fd()).is_none());
    }

    /// An accepted socket inherits options of the listening socket, here `IPV6_RECVERR`.
    #[cfg(feature = "server")]
    #[tokio::test]
    async fn options_of_accepted_sockets_are_not_changed() {
        use crate::{TraceSink, server::TraceListener};
        use uapi::c::{IPPROTO_IPV6, IPV6_RECVERR, c_int};

        let listener = tokio::net::TcpListener::bind("[::1]:0").await.unwrap();
        uapi::setsockopt(listener.as_raw_fd(), IPPROTO_IPV6, IPV6_RECVERR, &c_int::from(true)).unwrap();
        let sink = TraceSink::builder().probe(TcpInfoProbe::new()).build();
        let listener = TraceListener::new(&sink, listener);
        let addr = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(tokio::net::TcpStream::connect(addr), listener.accept());
        let (stream, _) = accepted.unwrap();
        let mut is_on = c_int::from(false);
        uapi::getsockopt(stream.get_ref().as_raw_fd(), IPPROTO_IPV6, IPV6_RECVERR, &mut is_on).unwrap();
        assert_eq!(is_on, c_int::from(true));
        drop(client);
    }
}
