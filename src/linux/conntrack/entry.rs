//! An entry as the kernel writes it: netlink attributes (`nfnetlink_conntrack.h`).

use crate::{
    record::{AddrTuple, ConntrackEntry, Timestamp},
    sink::ConnRef,
};
use std::{
    iter,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

/// A connection as its socket sees it, before NAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tuple {
    pub(super) is_udp: bool,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

impl Tuple {
    /// No connection has these addresses.
    pub(super) const NONE: Tuple = {
        let nobody = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Tuple { is_udp: false, local: nobody, remote: nobody }
    };

    /// `None` as long as an address is not known.
    pub(super) fn of(conn: &ConnRef) -> Option<Self> {
        let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let (local, remote) = (canonical(conn.local_addr()?), canonical(conn.peer_addr()?));
        Some(Tuple { is_udp: conn.is_udp(), local, remote })
    }
}

/// An entry, and what the kernel keeps with it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct ParsedEntry {
    pub(super) entry: ConntrackEntry,
    pub(super) has_counters: bool,
    pub(super) has_timestamps: bool,
}

impl ParsedEntry {
    /// As much as can be read.
    pub(super) fn parse(bytes: &[u8], tuple: &Tuple) -> Self {
        let mut found = ParsedEntry::default();
        let (mut original, mut reply) = Default::default();
        let (mut sent, mut received) = Default::default();
        let entry = &mut found.entry;
        for (kind, value) in attributes(bytes) {
            match kind {
                cta::TUPLE_ORIG => original = entry_tuple(value),
                cta::TUPLE_REPLY => reply = entry_tuple(value),
                cta::STATUS => {
                    entry.status = number(value).map(u32::from_be_bytes).unwrap_or_default().into()
                }
                cta::PROTOINFO => entry.tcp_state = tcp_state(value).unwrap_or_default().into(),
                cta::MARK => entry.mark = number(value).map(u32::from_be_bytes).unwrap_or_default(),
                cta::COUNTERS_ORIG => (found.has_counters, sent) = (true, pair(value)),
                cta::COUNTERS_REPLY => received = pair(value),
                cta::ID => entry.id = number(value).map(u32::from_be_bytes),
                cta::ZONE => entry.zone = number(value).map(u16::from_be_bytes),
                cta::TIMESTAMP => {
                    found.has_timestamps = true;
                    [entry.start_at, entry.stop_at] = pair(value).map(timestamp);
                }
                _ => {}
            }
        }
        entry.zone = entry.zone.or(original.zone);
        // A connection that was there before the kernel tracked it may have been seen from the other end first.
        if reply.is(tuple.local, tuple.remote) && !original.is(tuple.local, tuple.remote) {
            (sent, received) = (received, sent);
        }
        [entry.packets_sent, entry.bytes_sent] = sent;
        [entry.packets_recv, entry.bytes_recv] = received;
        (entry.addr_orig, entry.addr_reply) = (original.into(), reply.into());
        found
    }
}

/// `enum ctattr_type`
pub(super) mod cta {
    pub(in crate::linux::conntrack) const TUPLE_ORIG: u16 = 1;
    pub(in crate::linux::conntrack) const TUPLE_REPLY: u16 = 2;
    pub(in crate::linux::conntrack) const STATUS: u16 = 3;
    pub(in crate::linux::conntrack) const PROTOINFO: u16 = 4;
    pub(in crate::linux::conntrack) const MARK: u16 = 8;
    pub(in crate::linux::conntrack) const COUNTERS_ORIG: u16 = 9;
    pub(in crate::linux::conntrack) const COUNTERS_REPLY: u16 = 10;
    pub(in crate::linux::conntrack) const ID: u16 = 12;
    pub(in crate::linux::conntrack) const ZONE: u16 = 18;
    pub(in crate::linux::conntrack) const TIMESTAMP: u16 = 20;
}

/// `enum ctattr_tuple`
pub(super) mod cta_tuple {
    pub(in crate::linux::conntrack) const IP: u16 = 1;
    pub(in crate::linux::conntrack) const PROTO: u16 = 2;
    pub(in crate::linux::conntrack) const ZONE: u16 = 3;
}

#[derive(Debug, Default)]
struct EntryTuple {
    ips: [Option<IpAddr>; 2],
    ports: [u16; 2],
    zone: Option<u16>,
}

impl EntryTuple {
    fn is(&self, src: SocketAddr, dst: SocketAddr) -> bool {
        self.ips == [Some(src.ip()), Some(dst.ip())] && self.ports == [src.port(), dst.port()]
    }
}

impl From<EntryTuple> for AddrTuple {
    fn from(EntryTuple { ips: [src, dst], ports: [src_port, dst_port], .. }: EntryTuple) -> Self {
        let socket = |ip: Option<IpAddr>, port| ip.map(|ip| SocketAddr::new(ip, port));
        AddrTuple::new(socket(src, src_port), socket(dst, dst_port))
    }
}

fn entry_tuple(bytes: &[u8]) -> EntryTuple {
    let mut tuple = EntryTuple::default();
    for (kind, value) in attributes(bytes) {
        match kind {
            // `enum ctattr_ip`: source and destination, first of IPv4, then of IPv6.
            cta_tuple::IP => {
                for (kind, value) in attributes(value) {
                    match kind {
                        1 | 2 => tuple.ips[usize::from(kind) - 1] = number::<4>(value).map(IpAddr::from),
                        3 | 4 => tuple.ips[usize::from(kind) - 3] = number::<16>(value).map(IpAddr::from),
                        _ => {}
                    }
                }
            }
            // `enum ctattr_l4proto`: the protocol, which was asked for, then both ports.
            cta_tuple::PROTO => {
                for (kind, value) in attributes(value) {
                    if let (2 | 3, Some(port)) = (kind, number(value)) {
                        tuple.ports[usize::from(kind) - 2] = u16::from_be_bytes(port);
                    }
                }
            }
            cta_tuple::ZONE => tuple.zone = number(value).map(u16::from_be_bytes),
            _ => {}
        }
    }
    tuple
}

/// `CTA_PROTOINFO_TCP_STATE` in `CTA_PROTOINFO_TCP`
fn tcp_state(bytes: &[u8]) -> Option<u8> {
    let (_, tcp) = attributes(bytes).find(|(kind, _)| *kind == 1)?;
    let (_, state) = attributes(tcp).find(|(kind, _)| *kind == 1)?;
    state.first().copied()
}

/// Two numbers of 64 bits: packets and bytes (`enum ctattr_counters`), or begin and end (`enum ctattr_tstamp`).
fn pair(bytes: &[u8]) -> [u64; 2] {
    let mut pair = [0; 2];
    for (kind, value) in attributes(bytes) {
        if let (1 | 2, Some(value)) = (kind, number(value)) {
            pair[usize::from(kind) - 1] = u64::from_be_bytes(value);
        }
    }
    pair
}

fn timestamp(unix_nanos: u64) -> Timestamp {
    match unix_nanos {
        0 => Timestamp::UNDEFINED,
        nanos => Timestamp::from_unix_nanos(nanos.into()),
    }
}

fn number<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

/// Their kinds and values, as far as they are well-formed (`struct nlattr`). An entry has some forty of them.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    const HEADER: usize = 4;
    /// Without the flags `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
    const KIND: u16 = 0x3fff;
    iter::from_fn(move || {
        let &[l0, l1, k0, k1, ..] = bytes else { return None };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = bytes.get(HEADER..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & KIND, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ConntrackStatus;
    use netlink_packet_core::NlasIterator;
    use proptest::prelude::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (value.len() as u16 + 4).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
        attribute(kind | 0x8000, &parts.concat())
    }

    fn tuple(kind: u16, src: &[u8], dst: &[u8], ports: [u16; 2]) -> Vec<u8> {
        let of_v4 = if src.len() == 4 { 1 } else { 3 };
        let ips = nested(1, &[attribute(of_v4, src), attribute(of_v4 + 1, dst)]);
        let ports = ports.map(u16::to_be_bytes);
        let proto = nested(2, &[attribute(1, &[6]), attribute(2, &ports[0]), attribute(3, &ports[1])]);
        nested(kind, &[ips, proto])
    }

    fn counters(kind: u16, packets: u64, bytes: u64) -> Vec<u8> {
        nested(kind, &[attribute(1, &packets.to_be_bytes()), attribute(2, &bytes.to_be_bytes())])
    }

    fn tuple_of(local: &str, remote: &str) -> Tuple {
        Tuple { is_udp: false, local: local.parse().unwrap(), remote: remote.parse().unwrap() }
    }

    #[test]
    fn all_that_the_kernel_tells() {
        let bytes = [
            tuple(1, &[10, 0, 0, 1], &[10, 0, 0, 2], [1000, 80]),
            tuple(2, &[10, 0, 0, 2], &[192, 0, 2, 1], [80, 2000]),
            attribute(3, &0x19e_u32.to_be_bytes()),
            nested(4, &[nested(1, &[attribute(1, &[3]), attribute(2, &[7])])]),
            attribute(7, &120_u32.to_be_bytes()),
            attribute(8, &7_u32.to_be_bytes()),
            counters(9, 4, 308),
            counters(10, 3, 970),
            attribute(12, &0xdead_beef_u32.to_be_bytes()),
            attribute(18, &5_u16.to_be_bytes()),
            nested(20, &[attribute(1, &1_700_000_000_000_000_001_u64.to_be_bytes())]),
            attribute(999, b"from a later kernel"),
        ]
        .concat();
        let found = ParsedEntry::parse(&bytes, &tuple_of("10.0.0.1:1000", "10.0.0.2:80"));
        assert!(found.has_counters && found.has_timestamps);
        let entry = found.entry;
        assert!(entry.status.contains(ConntrackStatus::SRC_NAT | ConntrackStatus::ASSURED));
        assert_eq!((entry.tcp_state.as_str(), entry.mark), ("established", 7));
        let of = |src: &str, dst: &str| {
            AddrTuple::new(src.parse::<SocketAddr>().unwrap(), dst.parse::<SocketAddr>().unwrap())
        };
        assert_eq!(entry.addr_orig, of("10.0.0.1:1000", "10.0.0.2:80"));
        assert_eq!(entry.addr_reply, of("10.0.0.2:80", "192.0.2.1:2000"));
        assert_eq!((entry.packets_sent, entry.bytes_sent), (4, 308));
        assert_eq!((entry.packets_recv, entry.bytes_recv), (3, 970));
        assert_eq!((entry.id, entry.zone), (Some(0xdead_beef), Some(5)));
        assert_eq!(entry.start_at, Timestamp::from_unix_nanos(1_700_000_000_000_000_001));
        assert!(entry.stop_at.is_undefined());
    }

    #[test]
    fn an_entry_that_the_peer_began_counts_the_other_way() {
        let (here, there) = ([0xfe; 16], [0xfd; 16]);
        let local = SocketAddr::new(here.into(), 1000);
        let remote = SocketAddr::new(there.into(), 80);
        let bytes = [
            tuple(1, &there, &here, [80, 1000]),
            tuple(2, &here, &there, [1000, 80]),
            counters(9, 1, 100),
            counters(10, 2, 200),
        ]
        .concat();
        let entry = ParsedEntry::parse(&bytes, &Tuple { is_udp: false, local, remote }).entry;
        assert_eq!(entry.addr_orig, AddrTuple::new(remote, local));
        assert_eq!((entry.packets_sent, entry.packets_recv), (2, 1));
        assert_eq!((entry.bytes_sent, entry.bytes_recv), (200, 100));
    }

    proptest! {
        #[test]
        fn attributes_are_those_of_the_library(
            parts in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..9)), 0..5),
            at in 0..60_usize, with in any::<u8>(), cut in 0..60_usize,
        ) {
            let mut bytes: Vec<u8> = parts.iter().flat_map(|(kind, value)| attribute(*kind, value)).collect();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = with;
            }
            bytes.truncate(bytes.len().max(cut) - cut);
            let library = NlasIterator::new(&bytes).map_while(|attribute| {
                let attribute = attribute.ok()?;
                let value = attribute.into_inner().get(4..usize::from(attribute.length()))?;
                Some((attribute.kind(), value))
            });
            prop_assert_eq!(attributes(&bytes).collect::<Vec<_>>(), library.collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            ParsedEntry::parse(&bytes, &Tuple::NONE);
        }

        #[test]
        fn any_values_are_read(parts in prop::collection::vec((0..25u16, prop::collection::vec(0..30u8, 0..60)), 0..8)) {
            let bytes: Vec<u8> = parts.iter().flat_map(|(kind, value)| attribute(*kind, value)).collect();
            ParsedEntry::parse(&bytes, &Tuple::NONE);
        }
    }
}
