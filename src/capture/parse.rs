//! Classifies captured packets, as far as it matters for whether they are kept.
//!
//! Packets are cut off at the snap length and may be anything: what is not understood is [`PacketKind::Other`].

use super::tcp_close::TcpCloseFields;
use etherparse::{EtherType, Ipv6ExtensionSlice, LaxNetSlice, LaxSlicedPacket, ip_number};
use std::net::IpAddr;

/// Header types of link layers (`DLT_*`, `LINKTYPE_*` of libpcap) that are understood.
pub(super) mod link_type {
    pub(in crate::capture) const NULL: i32 = 0;
    pub(in crate::capture) const ETHERNET: i32 = 1;
    /// `DLT_RAW` of most systems, that of OpenBSD, and the value in files.
    pub(in crate::capture) const RAW: [i32; 3] = [12, 14, RAW_IN_FILES];
    pub(in crate::capture) const RAW_IN_FILES: i32 = 101;
    pub(in crate::capture) const LOOP: i32 = 108;
    pub(in crate::capture) const LINUX_SLL: i32 = 113;
    pub(in crate::capture) const LINUX_SLL2: i32 = 276;
}

/// The IP address and port of one end of a connection.
pub(super) type Endpoint = (IpAddr, u16);

/// The kind of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PacketKind {
    /// A TCP segment or UDP datagram with its ports, and the identity of its later fragments if there are any.
    Segment(Segment, Option<Fragment>),
    /// A fragment without ports.
    Fragment(Fragment),
    /// An ICMP error that quotes such a segment.
    IcmpError(Segment),
    /// Any other ICMP packet.
    Icmp,
    Arp,
    Other,
}

/// A TCP segment or UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) protocol: Protocol,
    pub(super) source: Endpoint,
    pub(super) destination: Endpoint,
    /// Whether this is a SYN without an ACK: nothing of that connection was sent before.
    pub(super) is_syn: bool,
    /// Whether it carries data of the application. Always `true` for UDP.
    pub(super) has_payload: bool,
    /// `None` for UDP, and where the header is cut off.
    pub(super) tcp: Option<TcpCloseFields>,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

/// The identity of a fragmented packet, which all of its fragments carry (RFC 791, RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    identification: u32,
}

/// Returns `true` if packets of this link layer can be classified.
pub(super) fn is_understood(link_type: i32) -> bool {
    use self::link_type::{ETHERNET, LINUX_SLL, LINUX_SLL2, LOOP, NULL, RAW};
    RAW.contains(&link_type) || [NULL, ETHERNET, LOOP, LINUX_SLL, LINUX_SLL2].contains(&link_type)
}

/// Classifies a packet of an interface with this link layer.
pub(super) fn classify(link_type: i32, data: &[u8]) -> PacketKind {
    try_classify(link_type, data).unwrap_or(PacketKind::Other)
}

fn try_classify(link_type: i32, data: &[u8]) -> Option<PacketKind> {
    let protocol = |data: &[u8], at: usize| {
        let number = data.get(at..)?.first_chunk()?;
        Some(EtherType(u16::from_be_bytes(*number)))
    };
    let packet = match link_type {
        link_type::ETHERNET => LaxSlicedPacket::from_ethernet(data).ok()?,
        link_type::LINUX_SLL => LaxSlicedPacket::from_ether_type(protocol(data, 14)?, data.get(16..)?),
        link_type::LINUX_SLL2 => LaxSlicedPacket::from_ether_type(protocol(data, 0)?, data.get(20..)?),
        // The address family has another number on each system; the IP header says it, too.
        link_type::NULL | link_type::LOOP => LaxSlicedPacket::from_ip(data.get(4..)?).ok()?,
        _ => LaxSlicedPacket::from_ip(data).ok()?,
    };
    match Ip::read(packet.net?) {
        Some(ip) => ip.kind(),
        None => Some(PacketKind::Arp),
    }
}

/// An IP packet, as far as it was captured.
struct Ip<'a> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// The length of the whole payload in bytes, as the header says; `None` if the header's lengths contradict each
    /// other.
    length: Option<usize>,
    /// The captured part of the payload.
    payload: &'a [u8],
    /// The packet's identification and which fragment of it this is.
    fragment: Option<(u32, FragmentPosition)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FragmentPosition {
    First,
    Later,
}

impl<'a> Ip<'a> {
    /// Reads the headers; `None` for ARP.
    fn read(net: LaxNetSlice<'a>) -> Option<Self> {
        let position =
            |offset: u16| if offset == 0 { FragmentPosition::First } else { FragmentPosition::Later };
        Some(match net {
            LaxNetSlice::Arp(_) => return None,
            LaxNetSlice::Ipv4(ip) => {
                let (header, payload) = (ip.header(), ip.payload().clone());
                let headers =
                    header.slice().len() + ip.extensions().auth.map_or(0, |auth| auth.slice().len());
                let position = position(header.fragments_offset().value());
                Ip {
                    source: header.source_addr().into(),
                    destination: header.destination_addr().into(),
                    protocol: payload.ip_number.0,
                    length: usize::from(header.total_len()).checked_sub(headers),
                    fragment: payload.fragmented.then_some((header.identification().into(), position)),
                    payload: payload.payload,
                }
            }
            LaxNetSlice::Ipv6(ip) => {
                let (header, payload) = (ip.header(), ip.payload().clone());
                let fragment = ip.extensions().clone().into_iter().find_map(|extension| match extension {
                    Ipv6ExtensionSlice::Fragment(fragment) if fragment.is_fragmenting_payload() => {
                        Some((fragment.identification(), position(fragment.fragment_offset().value())))
                    }
                    _ => None,
                });
                Ip {
                    source: header.source_addr().into(),
                    destination: header.destination_addr().into(),
                    protocol: payload.ip_number.0,
                    length: usize::from(header.payload_length()).checked_sub(ip.extensions().slice().len()),
                    payload: payload.payload,
                    fragment,
                }
            }
        })
    }

    fn kind(&self) -> Option<PacketKind> {
        let fragment = self.fragment.map(|(identification, _)| Fragment {
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            identification,
        });
        if let (Some(fragment), Some((_, FragmentPosition::Later))) = (fragment, self.fragment) {
            return Some(PacketKind::Fragment(fragment));
        }
        Some(match self.protocol {
            ICMP | ICMPV6 => self.quoted().map_or(PacketKind::Icmp, PacketKind::IcmpError),
            _ => PacketKind::Segment(self.segment()?, fragment),
        })
    }

    fn segment(&self) -> Option<Segment> {
        let protocol = match self.protocol {
            TCP => Protocol::Tcp,
            UDP => Protocol::Udp,
            _ => return None,
        };
        let &[s0, s1, d0, d1] = self.payload.first_chunk()?;
        let (source, destination) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
        let is_tcp = protocol == Protocol::Tcp;
        Some(Segment {
            protocol,
            source: (canonical(self.source), source),
            destination: (canonical(self.destination), destination),
            is_syn: is_tcp && self.payload.get(13).is_some_and(|flags| flags & (SYN | ACK) == SYN),
            has_payload: !is_tcp || self.has_tcp_payload(),
            tcp: if is_tcp { self.close_fields() } else { None },
        })
    }

    fn close_fields(&self) -> Option<TcpCloseFields> {
        let header: &[u8; 20] = self.payload.first_chunk()?;
        let number = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|place| header[at + place]));
        let flags = header[13];
        let data = self.length.unwrap_or(self.payload.len()).saturating_sub(usize::from(header[12] >> 4) * 4);
        // A packet is far shorter than sequence numbers are wide.
        let after_fin = number(4).wrapping_add(data as u32).wrapping_add(1);
        Some(TcpCloseFields {
            after_fin: (flags & FIN != 0).then_some(after_fin),
            acknowledged: (flags & ACK != 0).then(|| number(8)),
            is_reset: flags & RST != 0,
        })
    }

    /// Returns `true` if the segment has a payload, as far as the captured part of the header says.
    fn has_tcp_payload(&self) -> bool {
        let header = self.payload.get(12).map_or(20, |offset| usize::from(offset >> 4) * 4);
        // A length of zero stands for one that the field cannot hold (jumbograms of the local host).
        self.length.is_none_or(|length| length == 0 || length > header)
    }

    /// Returns the segment that an ICMP error quotes, at least its addresses and ports (RFC 792, RFC 4443).
    fn quoted(&self) -> Option<Segment> {
        let (header, quoted) = self.payload.split_at_checked(8)?;
        let is_error = match self.protocol {
            ICMP => [3, 4, 5, 11, 12].contains(&header[0]),
            _ => header[0] < 128,
        };
        let packet = LaxSlicedPacket::from_ip(quoted).ok().filter(|_| is_error)?;
        let ip = Ip::read(packet.net?)?;
        let has_ports = !matches!(ip.fragment, Some((_, FragmentPosition::Later)));
        ip.segment().filter(|_| has_ports)
    }
}

const ICMP: u8 = ip_number::ICMP.0;
const ICMPV6: u8 = ip_number::IPV6_ICMP.0;
const TCP: u8 = ip_number::TCP.0;
const UDP: u8 = ip_number::UDP.0;

/// Flags of the TCP header (RFC 9293 section 3.1).
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Returns the address as it is in packets: IPv4 where a program has an IPv4-mapped IPv6 address.
pub(super) fn canonical(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_canonical(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{PacketBuilder, SlicedPacket};
    use proptest::prelude::*;

    const CLIENT: Endpoint = (IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), 40_000);
    const SERVER: Endpoint = (IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2)), 443);

    fn tcp(payload: &[u8], syn: bool) -> Vec<u8> {
        let ip = PacketBuilder::ethernet2([0; 6], [1; 6]).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64);
        let tcp = ip.tcp(40_000, 443, 1, 1000);
        let tcp = if syn { tcp.syn() } else { tcp.ack(1) };
        let mut packet = Vec::new();
        tcp.write(&mut packet, payload).unwrap();
        packet
    }

    fn segment(kind: PacketKind) -> Segment {
        match kind {
            PacketKind::Segment(segment, _) => segment,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_segment_is_read_over_each_link_layer() {
        let packet = tcp(b"x", false);
        let (ip, ethernet) = (&packet[14..], &packet[..]);
        let sll = [&[0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0][..], ip].concat();
        let sll2 = [&[8, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0][..], ip].concat();
        let vlan = [&packet[..12], &[0x81, 0, 0, 5], &packet[12..]].concat();
        let null = [&[2, 0, 0, 0][..], ip].concat();
        let layers = [
            (link_type::ETHERNET, ethernet),
            (link_type::ETHERNET, &vlan),
            (link_type::LINUX_SLL, &sll),
            (link_type::LINUX_SLL2, &sll2),
            (link_type::NULL, &null),
            (link_type::RAW[0], ip),
        ];
        for (link_type, data) in layers {
            assert!(is_understood(link_type));
            let found = segment(classify(link_type, data));
            assert_eq!((found.source, found.destination), (CLIENT, SERVER), "{link_type}");
            assert!(!found.is_syn && found.has_payload);
        }
        assert!(segment(classify(link_type::ETHERNET, &tcp(b"", true))).is_syn);
    }

    #[test]
    fn payload_is_distinguished_from_padding_and_known_if_cut_off() {
        let has_payload = |data: &[u8]| segment(classify(link_type::ETHERNET, data)).has_payload;
        let ack = tcp(b"", false);
        assert!(!has_payload(&ack));
        assert!(!has_payload(&[&ack[..], &[0; 6]].concat()), "padding of a short frame");
        assert!(has_payload(&tcp(b"1", false)[..ack.len()]), "cut off at the snap length");
        assert!(!has_payload(&ack[..14 + 20 + 4]), "truncated after the ports");
    }

    #[test]
    fn fields_that_close_a_connection_are_read() {
        let ip = || PacketBuilder::ethernet2([0; 6], [1; 6]).ipv6([1; 16], [2; 16], 64);
        let fields_of = |tcp: etherparse::PacketBuilderStep<etherparse::TcpHeader>, payload: &[u8]| {
            let mut packet = Vec::new();
            tcp.write(&mut packet, payload).unwrap();
            segment(classify(link_type::ETHERNET, &packet)).tcp.unwrap()
        };
        let fin = fields_of(ip().tcp(1, 2, u32::MAX, 0).fin().ack(7), b"last");
        assert_eq!(fin, TcpCloseFields { after_fin: Some(4), acknowledged: Some(7), is_reset: false });
        let reset = fields_of(ip().tcp(1, 2, 9, 0).rst(), b"");
        assert_eq!(reset, TcpCloseFields { after_fin: None, acknowledged: None, is_reset: true });
    }

    #[test]
    fn the_packet_that_an_icmp_error_quotes_is_read() {
        let quoted = &tcp(b"hello", true)[14..14 + 20 + 8];
        let unreachable = |payload: &[u8], kind: u8| {
            let ip = PacketBuilder::ethernet2([0; 6], [1; 6]).ipv4([10, 0, 0, 9], [10, 0, 0, 1], 64);
            let mut packet = Vec::new();
            ip.icmpv4_raw(kind, 1, [0; 4]).write(&mut packet, payload).unwrap();
            classify(link_type::ETHERNET, &packet)
        };
        match unreachable(quoted, 3) {
            PacketKind::IcmpError(segment) => {
                assert_eq!((segment.source, segment.destination), (CLIENT, SERVER));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(unreachable(quoted, 8), PacketKind::Icmp, "an echo request quotes nothing");
        assert_eq!(unreachable(&quoted[..23], 3), PacketKind::Icmp);
    }

    #[test]
    fn later_fragments_of_ipv4_have_the_identity_of_the_first() {
        let mut first = tcp(&[7; 32], false);
        first[14 + 6] = 0x20; // more fragments
        let mut later = first.clone();
        later[14 + 7] = 4; // an offset
        match (classify(link_type::ETHERNET, &first), classify(link_type::ETHERNET, &later)) {
            (PacketKind::Segment(segment, Some(first)), PacketKind::Fragment(later)) => {
                assert_eq!(segment.source, CLIENT);
                assert_eq!(first, later);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn later_fragments_of_ipv6_have_the_identity_of_the_first() {
        let fragment = |offset: u16, more: bool| {
            let bits = (offset << 3) | u16::from(more);
            let mut packet = vec![0x60, 0, 0, 0, 0, 16, 44, 64];
            packet.extend([1; 16].iter().chain(&[2; 16]));
            packet.extend([17, 0]);
            packet.extend(bits.to_be_bytes());
            packet.extend([0, 0, 0, 9]);
            packet.extend([0, 53, 0x9c, 0x40, 0, 8, 0, 0]);
            classify(link_type::RAW_IN_FILES, &packet)
        };
        match (fragment(0, true), fragment(3, false)) {
            (PacketKind::Segment(segment, Some(first)), PacketKind::Fragment(later)) => {
                assert_eq!((segment.source.1, segment.destination.1), (53, 40_000));
                assert_eq!(first, later);
            }
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(link_type in 0..300, data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = classify(link_type, &data);
        }

        #[test]
        fn damaged_packets_are_read_without_a_panic(
            at in 0..90_usize, with in any::<u8>(), keep in 0..100_usize, vlan in any::<bool>()
        ) {
            let mut packet = tcp(&[0; 30], false);
            if vlan {
                packet.splice(12..12, [0x81, 0, 0, 5]);
            }
            if let Some(byte) = packet.get_mut(at) {
                *byte = with;
            }
            packet.truncate(keep);
            let _ = classify(link_type::ETHERNET, &packet);
        }

        /// The oracle is the strict parser of etherparse, which rejects truncated packets.
        #[test]
        fn whole_packets_are_read_as_by_etherparse(source in any::<u16>(), destination in any::<u16>(), payload in proptest::collection::vec(any::<u8>(), 0..40), v6 in any::<bool>()) {
            let link = PacketBuilder::ethernet2([0; 6], [1; 6]);
            let ip = if v6 { link.ipv6([1; 16], [2; 16], 64) } else { link.ipv4([1; 4], [2; 4], 64) };
            let mut packet = Vec::new();
            ip.tcp(source, destination, 0, 0).write(&mut packet, &payload).unwrap();
            prop_assert!(SlicedPacket::from_ethernet(&packet).is_ok());
            let found = segment(classify(link_type::ETHERNET, &packet));
            prop_assert_eq!((found.source.1, found.destination.1), (source, destination));
            prop_assert_eq!(found.has_payload, !payload.is_empty());
        }
    }
}
