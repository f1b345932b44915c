//! Parses an entry as the kernel sends it.
//!
//! Each attribute is parsed for itself, so that a malformed one does not cost the others: by netlink-packet-netfilter
//! where it knows the attribute, and by [`attributes`](super::attributes) where it does not. Attributes that hold
//! others are walked here, as the library would make a `Vec` of each: 10,400 instructions an entry, against 3,900.

use super::{
    attributes::{Counters, Lifetime, PROTO_NUM, PROTOINFO_TCP, attributes, cta, cta_tuple},
    tuple::Tuple,
};
use crate::record::{AddrTuple, ConntrackEntry, Text, Timestamp};
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, IPTuple, ProtoInfoTCP, ProtoTuple};
use std::net::{IpAddr, SocketAddr};

/// An entry, and whether the kernel keeps counters and times with it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ParsedEntry {
    pub(super) entry: ConntrackEntry,
    pub(super) has_counters: bool,
    pub(super) has_timestamps: bool,
}

impl ParsedEntry {
    /// Parses the attributes of an entry that was found by `tuple`, as far as they are well-formed.
    pub(super) fn parse(bytes: &[u8], tuple: &Tuple) -> Self {
        let mut parsed = ParsedEntry::default();
        let (mut original, mut reply) = (EntryTuple::default(), EntryTuple::default());
        let (mut sent, mut received) = (Counters::default(), Counters::default());
        let entry = &mut parsed.entry;
        for attribute in attributes(bytes) {
            match attribute.kind {
                cta::TUPLE_ORIG => original = EntryTuple::parse(attribute.value),
                cta::TUPLE_REPLY => reply = EntryTuple::parse(attribute.value),
                cta::STATUS | cta::MARK => match attribute.parse() {
                    Some(ConntrackAttribute::CtaStatus(status)) => entry.status = status.bits().into(),
                    Some(ConntrackAttribute::CtaMark(mark)) => entry.mark = mark,
                    _ => {}
                },
                cta::PROTOINFO => entry.tcp_state = tcp_state(attribute.value).unwrap_or_default().into(),
                cta::COUNTERS_ORIG => {
                    parsed.has_counters = true;
                    sent = Counters::parse(attribute.value);
                }
                cta::COUNTERS_REPLY => received = Counters::parse(attribute.value),
                cta::ID => entry.id = attribute.be_u32(),
                cta::ZONE => entry.zone = attribute.be_u16(),
                cta::TIMESTAMP => {
                    parsed.has_timestamps = true;
                    let lifetime = Lifetime::parse(attribute.value);
                    entry.start_at = timestamp(lifetime.start);
                    entry.stop_at = timestamp(lifetime.stop);
                }
                _ => {}
            }
        }
        entry.zone = entry.zone.or(original.zone);
        // The peer's packet was the first that the kernel saw, if it began to track after the connection was made.
        let began_at_peer = reply.is(tuple.local, tuple.remote) && !original.is(tuple.local, tuple.remote);
        let (sent, received) = if began_at_peer { (received, sent) } else { (sent, received) };
        entry.packets_sent = sent.packets;
        entry.bytes_sent = sent.bytes;
        entry.packets_recv = received.packets;
        entry.bytes_recv = received.bytes;
        (entry.addr_orig, entry.addr_reply) = addr_tuples(&original, &reply);
        parsed
    }
}

/// The addresses of an entry in one direction.
#[derive(Debug, Default)]
struct EntryTuple {
    source_ip: Option<IpAddr>,
    destination_ip: Option<IpAddr>,
    source_port: u16,
    destination_port: u16,
    zone: Option<u16>,
}

impl EntryTuple {
    fn parse(bytes: &[u8]) -> Self {
        let mut tuple = EntryTuple::default();
        for attribute in attributes(bytes) {
            match attribute.kind {
                cta_tuple::IP => {
                    for ip in attributes(attribute.value) {
                        match ip.parse() {
                            Some(IPTuple::SourceAddress(ip)) => tuple.source_ip = Some(ip),
                            Some(IPTuple::DestinationAddress(ip)) => tuple.destination_ip = Some(ip),
                            _ => {}
                        }
                    }
                }
                cta_tuple::PROTO => {
                    // The protocol is that which was asked for.
                    for port in attributes(attribute.value).filter(|port| port.kind != PROTO_NUM) {
                        match port.parse() {
                            Some(ProtoTuple::SourcePort(port)) => tuple.source_port = port,
                            Some(ProtoTuple::DestinationPort(port)) => tuple.destination_port = port,
                            _ => {}
                        }
                    }
                }
                cta_tuple::ZONE => tuple.zone = attribute.be_u16(),
                _ => {}
            }
        }
        tuple
    }

    fn is(&self, source: SocketAddr, destination: SocketAddr) -> bool {
        (self.source_ip, self.source_port) == (Some(source.ip()), source.port())
            && (self.destination_ip, self.destination_port) == (Some(destination.ip()), destination.port())
    }
}

/// Returns the addresses of both directions. They share all of their texts unless there is NAT.
fn addr_tuples(original: &EntryTuple, reply: &EntryTuple) -> (AddrTuple, AddrTuple) {
    let text = |ip: Option<IpAddr>| ip.map(Text::from).unwrap_or_default();
    let addr_orig = AddrTuple {
        src_ip: text(original.source_ip),
        src_port: original.source_port,
        dst_ip: text(original.destination_ip),
        dst_port: original.destination_port,
    };
    let shared_text = |ip: Option<IpAddr>| {
        if ip == original.destination_ip {
            addr_orig.dst_ip.clone()
        } else if ip == original.source_ip {
            addr_orig.src_ip.clone()
        } else {
            text(ip)
        }
    };
    let addr_reply = AddrTuple {
        src_ip: shared_text(reply.source_ip),
        src_port: reply.source_port,
        dst_ip: shared_text(reply.destination_ip),
        dst_port: reply.destination_port,
    };
    (addr_orig, addr_reply)
}

/// Returns the number of the state of a TCP connection (`enum tcp_conntrack`).
fn tcp_state(protocol_info: &[u8]) -> Option<u8> {
    let tcp = attributes(protocol_info).find(|attribute| attribute.kind == PROTOINFO_TCP)?;
    attributes(tcp.value).find_map(|attribute| match attribute.parse() {
        Some(ProtoInfoTCP::State(state)) => Some(state),
        _ => None,
    })
}

fn timestamp(unix_nanos: u64) -> Timestamp {
    match unix_nanos {
        0 => Timestamp::UNDEFINED,
        nanos => Timestamp::from_unix_nanos(nanos.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{linux::conntrack::sample, record::ConntrackStatus};
    use netlink_packet_netfilter::conntrack::ProtoInfo;
    use proptest::prelude::*;

    fn tuple(local: &str, remote: &str) -> Tuple {
        Tuple { is_udp: false, local: local.parse().unwrap(), remote: remote.parse().unwrap() }
    }

    #[test]
    fn every_attribute_is_parsed() {
        let original = tuple("10.0.0.1:1000", "10.0.0.2:80");
        let mut attributes = sample::entry(&original, &tuple("10.0.0.2:80", "192.0.2.1:2000"));
        attributes.extend([
            ConntrackAttribute::CtaProtoInfo(vec![ProtoInfo::TCP(vec![
                ProtoInfoTCP::State(3),
                ProtoInfoTCP::OriginalWindowScale(7),
            ])]),
            ConntrackAttribute::CtaTimeout(120),
            sample::other(cta::ZONE, 5_u16.to_be_bytes().into()),
            sample::other(999, b"from a later kernel".into()),
        ]);
        let parsed = ParsedEntry::parse(&sample::bytes(&attributes), &original);
        assert!(parsed.has_counters && parsed.has_timestamps);
        let entry = parsed.entry;
        assert!(entry.status.contains(ConntrackStatus::SRC_NAT | ConntrackStatus::ASSURED));
        assert_eq!((entry.tcp_state.as_str(), entry.mark), ("established", 7));
        let addr_tuple = |src: &str, dst: &str| {
            AddrTuple::new(src.parse::<SocketAddr>().unwrap(), dst.parse::<SocketAddr>().unwrap())
        };
        assert_eq!(entry.addr_orig, addr_tuple("10.0.0.1:1000", "10.0.0.2:80"));
        assert_eq!(entry.addr_reply, addr_tuple("10.0.0.2:80", "192.0.2.1:2000"));
        assert_eq!((entry.packets_sent, entry.bytes_sent), (4, 308));
        assert_eq!((entry.packets_recv, entry.bytes_recv), (3, 970));
        assert_eq!((entry.id, entry.zone), (Some(0xdead_beef), Some(5)));
        assert_eq!(entry.start_at, Timestamp::from_unix_nanos(1_700_000_000_000_000_001));
        assert!(entry.stop_at.is_undefined());
    }

    #[test]
    fn counters_are_swapped_if_the_peer_began() {
        let own = tuple("[fe80::1]:1000", "[fd00::1]:80");
        let peers = Tuple { local: own.remote, remote: own.local, ..own };
        let entry = ParsedEntry::parse(&sample::bytes(&sample::entry(&peers, &own)), &own).entry;
        assert_eq!(entry.addr_orig, AddrTuple::new(own.remote, own.local));
        assert_eq!(entry.addr_reply, AddrTuple::new(own.local, own.remote));
        assert_eq!((entry.packets_sent, entry.packets_recv), (3, 4));
        assert_eq!((entry.bytes_sent, entry.bytes_recv), (970, 308));
    }

    #[test]
    fn a_malformed_attribute_does_not_affect_others() {
        use netlink_packet_core::{NLA_TYPE_MASK, Nla};

        let original = tuple("10.0.0.1:1000", "10.0.0.2:80");
        let reversed = Tuple { local: original.remote, remote: original.local, ..original };
        let good = sample::entry(&original, &reversed);
        let entry = ParsedEntry::parse(&sample::bytes(&good), &original).entry;
        for (kind, expected) in [
            (cta::TUPLE_REPLY, ConntrackEntry { addr_reply: AddrTuple::default(), ..entry.clone() }),
            (cta::STATUS, ConntrackEntry { status: 0.into(), ..entry.clone() }),
            (cta::MARK, ConntrackEntry { mark: 0, ..entry.clone() }),
            (cta::COUNTERS_ORIG, ConntrackEntry { packets_sent: 0, bytes_sent: 0, ..entry.clone() }),
            (cta::ID, ConntrackEntry { id: None, ..entry.clone() }),
            (cta::TIMESTAMP, ConntrackEntry { start_at: Timestamp::UNDEFINED, ..entry.clone() }),
        ] {
            let mut attributes = good.clone();
            let index = attributes.iter().position(|good| good.kind() & NLA_TYPE_MASK == kind).unwrap();
            attributes[index] = sample::other(kind, vec![1]);
            let parsed = ParsedEntry::parse(&sample::bytes(&attributes), &original).entry;
            assert_eq!(parsed, expected, "attribute {kind}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            ParsedEntry::parse(&bytes, &Tuple::NONE);
        }

        #[test]
        fn any_values_are_parsed_without_a_panic(parts in prop::collection::vec((0..25u16, prop::collection::vec(0..30u8, 0..60)), 0..8)) {
            let attributes: Vec<_> = parts.into_iter().map(|(kind, value)| sample::other(kind, value)).collect();
            ParsedEntry::parse(&sample::bytes(&attributes), &Tuple::NONE);
        }
    }
}
