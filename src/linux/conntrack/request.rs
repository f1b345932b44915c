//! The netlink messages that ask for one conntrack entry each.
//!
//! netlink-packet-netfilter builds a message for each protocol and IP version when the probe starts. A request is a
//! copy of one of them with the connection's addresses and ports filled in: 190 instructions, where building each one
//! anew takes 4,100 and five heap allocations.

use super::{attributes::cta, tuple::Tuple};
use netlink_packet_core::{
    DefaultNla, NLA_HEADER_SIZE, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterProtoFamily,
    conntrack::{
        ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple as TupleAttribute,
    },
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Serialized requests, to be copied.
#[derive(Debug)]
pub(super) struct RequestTemplates {
    tcp_v4: Vec<u8>,
    tcp_v6: Vec<u8>,
    udp_v4: Vec<u8>,
    udp_v6: Vec<u8>,
}

impl RequestTemplates {
    /// Returns templates that ask for entries of `zone`, or of the default one.
    pub(super) fn new(zone: Option<u16>) -> Self {
        let template = |is_udp, ip: IpAddr| {
            let addr = SocketAddr::new(ip, 0);
            build(&Tuple { is_udp, local: addr, remote: addr }, zone, 0)
        };
        let (v4, v6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
        RequestTemplates {
            tcp_v4: template(false, v4),
            tcp_v6: template(false, v6),
            udp_v4: template(true, v4),
            udp_v6: template(true, v6),
        }
    }

    /// Appends a request for the entry whose original direction is `tuple`.
    pub(super) fn append(&self, requests: &mut Vec<u8>, tuple: &Tuple, sequence_number: u32) {
        let begin = requests.len();
        match (tuple.local.ip(), tuple.remote.ip()) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                requests.extend_from_slice(if tuple.is_udp { &self.udp_v4 } else { &self.tcp_v4 });
                V4.fill(&mut requests[begin..], tuple, local.octets(), remote.octets());
            }
            (local, remote) => {
                requests.extend_from_slice(if tuple.is_udp { &self.udp_v6 } else { &self.tcp_v6 });
                let [local, remote] = [local, remote].map(|ip| match ip {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                    IpAddr::V6(ip) => ip.octets(),
                });
                V6.fill(&mut requests[begin..], tuple, local, remote);
            }
        }
        NetlinkBuffer::new(&mut requests[begin..]).set_sequence_number(sequence_number);
    }
}

/// Offsets within a request of the fields that differ from connection to connection.
struct Offsets<const IP_BYTES: usize> {
    local_ip: usize,
    remote_ip: usize,
    local_port: usize,
    remote_port: usize,
}

const V4: Offsets<4> = Offsets::new();
const V6: Offsets<16> = Offsets::new();

impl<const IP_BYTES: usize> Offsets<IP_BYTES> {
    const fn new() -> Self {
        /// `struct nlmsghdr` and `struct nfgenmsg`.
        const MESSAGE_HEADERS: usize = 16 + 4;
        /// The protocol's number, with its header and padding.
        const PROTOCOL_NUMBER: usize = 8;
        /// A port with its padding.
        const PORT: usize = 4;
        // CTA_TUPLE_ORIG holds CTA_TUPLE_IP, which holds both addresses, and CTA_TUPLE_PROTO.
        let local_ip = MESSAGE_HEADERS + 3 * NLA_HEADER_SIZE;
        let remote_ip = local_ip + IP_BYTES + NLA_HEADER_SIZE;
        let local_port = remote_ip + IP_BYTES + NLA_HEADER_SIZE + PROTOCOL_NUMBER + NLA_HEADER_SIZE;
        let remote_port = local_port + PORT + NLA_HEADER_SIZE;
        Offsets { local_ip, remote_ip, local_port, remote_port }
    }

    fn fill(&self, request: &mut [u8], tuple: &Tuple, local: [u8; IP_BYTES], remote: [u8; IP_BYTES]) {
        request[self.local_ip..][..IP_BYTES].copy_from_slice(&local);
        request[self.remote_ip..][..IP_BYTES].copy_from_slice(&remote);
        request[self.local_port..][..2].copy_from_slice(&tuple.local.port().to_be_bytes());
        request[self.remote_port..][..2].copy_from_slice(&tuple.remote.port().to_be_bytes());
    }
}

/// Builds a request as the library does.
fn build(tuple: &Tuple, zone: Option<u16>, sequence_number: u32) -> Vec<u8> {
    let mut attributes = vec![ConntrackAttribute::CtaTupleOrig(tuple_attributes(tuple))];
    if let Some(zone) = zone {
        let zone = DefaultNla::new(cta::ZONE, zone.to_be_bytes().into());
        attributes.push(ConntrackAttribute::Other(zone));
    }
    let family = if tuple.local.is_ipv4() { NetfilterProtoFamily::IPv4 } else { NetfilterProtoFamily::IPv6 };
    let message =
        NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), ConntrackMessage::Get(attributes));
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    header.sequence_number = sequence_number;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Returns the attributes within `CTA_TUPLE_ORIG` or `CTA_TUPLE_REPLY`.
pub(super) fn tuple_attributes(tuple: &Tuple) -> Vec<TupleAttribute> {
    vec![
        TupleAttribute::Ip(vec![
            IPTuple::SourceAddress(tuple.local.ip()),
            IPTuple::DestinationAddress(tuple.remote.ip()),
        ]),
        TupleAttribute::Proto(vec![
            ProtoTuple::Protocol(if tuple.is_udp { Protocol::Udp } else { Protocol::Tcp }),
            ProtoTuple::SourcePort(tuple.local.port()),
            ProtoTuple::DestinationPort(tuple.remote.port()),
        ]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_filled_template_equals_a_request_built_anew(
            is_udp in any::<bool>(),
            ips in prop_oneof![
                any::<[Ipv4Addr; 2]>().prop_map(|ips| ips.map(IpAddr::from)),
                any::<[Ipv6Addr; 2]>().prop_map(|ips| ips.map(IpAddr::from)),
            ],
            ports in any::<[u16; 2]>(),
            zone in any::<Option<u16>>(),
            sequence_number in any::<u32>(),
        ) {
            let [local, remote] = [0, 1].map(|end| SocketAddr::new(ips[end], ports[end]));
            let tuple = Tuple { is_udp, local, remote };
            let mut requests = vec![7; 3];
            RequestTemplates::new(zone).append(&mut requests, &tuple, sequence_number);
            prop_assert_eq!(&requests[3..], build(&tuple, zone, sequence_number));
        }
    }
}
