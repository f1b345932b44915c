//! Reads the packets of one interface with libpcap.

use super::{
    packet::PacketRef,
    parse::{is_understood, link_type},
    problem::{InterfaceProblem, ProblemKind},
};
use pcap::{Active, Capture, Linktype, Precision};
use std::os::fd::{AsFd, OwnedFd};

/// The configuration of a capture.
#[derive(Clone, Debug)]
pub(super) struct CaptureConfig {
    /// The maximum number of bytes captured per packet.
    pub(super) snap_len: u32,
    /// The size of the kernel's buffer in bytes.
    pub(super) buffer_size: u32,
    /// Whether to capture ARP packets.
    pub(super) arp: bool,
    /// Whether to capture TCP segments with a payload.
    pub(super) tcp_payload: bool,
    /// A filter that packets have to pass in addition (pcap-filter(7)).
    pub(super) filter: Option<String>,
}

/// An open interface that is read without blocking.
pub(super) struct PcapHandle {
    capture: Capture<Active>,
    link_type: i32,
}

impl PcapHandle {
    pub(super) fn open(interface: &str, config: &CaptureConfig) -> Result<Self, InterfaceProblem> {
        Self::try_open(interface, config).map_err(|kind| InterfaceProblem::new(interface, kind))
    }

    fn try_open(interface: &str, config: &CaptureConfig) -> Result<Self, ProblemKind> {
        let because = |error: pcap::Error| ProblemKind::of(&error);
        let size = |bytes: u32| i32::try_from(bytes).unwrap_or(i32::MAX);
        let mut capture = Capture::from_device(interface)
            .map_err(because)?
            .promisc(false)
            .snaplen(size(config.snap_len))
            .buffer_size(size(config.buffer_size))
            .precision(PRECISION)
            // Packets can be read as soon as they arrive. Otherwise they are buffered for some time.
            .immediate_mode(true)
            .open()
            .and_then(Capture::setnonblock)
            .map_err(because)?;
        if interface == ANY {
            // This header has the index of the interface. A libpcap that does not support it keeps the header that it
            // uses by default.
            let _ = capture.set_datalink(Linktype(link_type::LINUX_SLL2));
        }
        let link_type = capture.get_datalink().0;
        if !is_understood(link_type) {
            return Err(ProblemKind::LinkType(link_type));
        }
        let filter = config.filter();
        capture.filter(&filter, true).map_err(|error| ProblemKind::Filter(error.to_string()))?;
        Ok(PcapHandle { capture, link_type })
    }

    /// Returns a descriptor that becomes readable with packets, so that nobody has to hold the handle to wait for them.
    pub(super) fn descriptor(&self) -> std::io::Result<OwnedFd> {
        self.capture.as_fd().try_clone_to_owned()
    }

    /// Returns the type of the link-layer header that packets begin with (`DLT_*` of libpcap).
    pub(super) fn link_type(&self) -> i32 {
        self.link_type
    }

    /// Calls `visit` for up to `limit` packets that have come. Returns how many there were.
    pub(super) fn read(
        &mut self,
        limit: usize,
        mut visit: impl FnMut(PacketRef<'_>),
    ) -> Result<usize, ProblemKind> {
        let visit = |packet: pcap::Packet<'_>| {
            let (seconds, fraction) = (packet.header.ts.tv_sec, packet.header.ts.tv_usec);
            let seconds = u64::try_from(seconds).unwrap_or(0);
            let nanos = u64::try_from(fraction).unwrap_or(0) * NANOS_PER_FRACTION;
            visit(PacketRef {
                at: seconds * 1_000_000_000 + nanos,
                length: packet.header.len,
                data: packet.data,
            });
        };
        self.capture.dispatch(Some(limit), visit).map_err(|error| ProblemKind::of(&error))
    }

    /// Returns how many packets the kernel dropped for lack of buffer space since the interface was opened; zero if
    /// that cannot be read.
    pub(super) fn dropped(&mut self) -> u64 {
        self.capture.stats().map_or(0, |stats| u64::from(stats.dropped))
    }
}

/// The name that stands for all interfaces (Linux).
const ANY: &str = "any";

/// The precision of timestamps. Nanoseconds are requested on Linux only: elsewhere libpcap may support microseconds
/// only.
#[cfg(target_os = "linux")]
const PRECISION: Precision = Precision::Nano;
#[cfg(target_os = "linux")]
const NANOS_PER_FRACTION: u64 = 1;
#[cfg(not(target_os = "linux"))]
const PRECISION: Precision = Precision::Micro;
#[cfg(not(target_os = "linux"))]
const NANOS_PER_FRACTION: u64 = 1_000;

impl CaptureConfig {
    /// Returns the filter that the kernel applies, so that other packets cost little.
    fn filter(&self) -> String {
        let tcp = if self.tcp_payload { "tcp" } else { TCP_WITHOUT_PAYLOAD };
        let arp = if self.arp { " or arp" } else { "" };
        let coarse = format!("{tcp} or udp or icmp or icmp6 or ({IPV6_WITH_EXTENSIONS}){arp}");
        match &self.filter {
            Some(filter) => format!("({coarse}) and ({filter})"),
            None => coarse,
        }
    }
}

/// A filter for TCP segments without a payload. Also passes later IPv4 fragments, which have no TCP header.
const TCP_WITHOUT_PAYLOAD: &str = "(ip and tcp and (ip[6:2] & 0x1fff != 0 or \
     ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2) == 0)) or \
     (ip6 and ip6[6] == 6 and ip6[4:2] - ((ip6[52] & 0xf0) >> 2) == 0)";

/// A filter for IPv6 packets with hop-by-hop options, routing, fragment, authentication or destination options, behind
/// which libpcap does not find the protocol (RFC 8200 section 4).
const IPV6_WITH_EXTENSIONS: &str =
    "ip6 and (ip6[6] == 0 or ip6[6] == 43 or ip6[6] == 44 or ip6[6] == 51 or ip6[6] == 60)";

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use pcap::BpfProgram;

    fn config() -> CaptureConfig {
        CaptureConfig { snap_len: 1518, buffer_size: 1 << 20, arp: false, tcp_payload: true, filter: None }
    }

    fn compiled(config: &CaptureConfig, link_type: i32) -> BpfProgram {
        Capture::dead(Linktype(link_type)).unwrap().compile(&config.filter(), true).unwrap()
    }

    fn tcp(payload: &[u8], v6: bool) -> Vec<u8> {
        let link = PacketBuilder::ethernet2([0; 6], [1; 6]);
        let ip = if v6 { link.ipv6([1; 16], [2; 16], 64) } else { link.ipv4([1; 4], [2; 4], 64) };
        let mut packet = Vec::new();
        ip.tcp(1, 2, 0, 0).write(&mut packet, payload).unwrap();
        packet
    }

    #[test]
    fn the_filter_compiles_for_each_link_layer() {
        let without = CaptureConfig { tcp_payload: false, arp: true, ..config() };
        let raw = link_type::RAW[0];
        for link_type in [link_type::ETHERNET, link_type::LINUX_SLL, link_type::LINUX_SLL2, raw] {
            compiled(&config(), link_type);
            compiled(&without, link_type);
        }
    }

    #[test]
    fn segments_with_a_payload_are_dropped_if_configured() {
        let all = compiled(&config(), link_type::ETHERNET);
        let without = compiled(&CaptureConfig { tcp_payload: false, ..config() }, link_type::ETHERNET);
        for v6 in [false, true] {
            let (bare, full) = (tcp(b"", v6), tcp(b"x", v6));
            assert!(all.filter(&bare) && all.filter(&full));
            assert!(without.filter(&bare) && !without.filter(&full), "IPv6: {v6}");
        }
    }

    #[test]
    fn the_users_filter_applies_in_addition() {
        let config = CaptureConfig { filter: Some("port 3 or port 4".into()), ..config() };
        assert!(!compiled(&config, link_type::ETHERNET).filter(&tcp(b"", false)));
        let config = CaptureConfig { filter: Some("port 1".into()), ..config };
        assert!(compiled(&config, link_type::ETHERNET).filter(&tcp(b"", false)));
    }

    #[test]
    fn errors_of_libpcap_are_classified() {
        let kind = |text: &str| ProblemKind::of(&pcap::Error::PcapError(text.into()));
        let denied = "lo: You don't have permission to perform this capture on that device \
                      (socket: Operation not permitted)";
        assert_eq!(kind(denied), ProblemKind::NotPermitted);
        assert_eq!(kind("nope: No such device exists"), ProblemKind::NoSuchInterface);
        assert_eq!(kind("The interface disappeared"), ProblemKind::WentDown);
        assert_eq!(kind("something else"), ProblemKind::Other("something else".into()));
    }
}
