//! A sample entry, as from a kernel that counts packets and records timestamps, for tests and benches.

use super::{attributes::cta, request::tuple_attributes, tuple::Tuple};
use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED};
use netlink_packet_netfilter::conntrack::{ConntrackAttribute, Status};

/// Returns the attributes of an entry whose protocol has no state.
pub(super) fn entry(original: &Tuple, reply: &Tuple) -> Vec<ConntrackAttribute> {
    let number = |kind, value: u64| other(kind, value.to_be_bytes().into());
    let nested = |kind, attributes: &[_]| other(kind | NLA_F_NESTED, bytes(attributes));
    vec![
        ConntrackAttribute::CtaTupleOrig(tuple_attributes(original)),
        ConntrackAttribute::CtaTupleReply(tuple_attributes(reply)),
        ConntrackAttribute::CtaStatus(Status::from_bits_retain(0x19e)),
        ConntrackAttribute::CtaMark(7),
        nested(cta::COUNTERS_ORIG, &[number(1, 4), number(2, 308)]),
        nested(cta::COUNTERS_REPLY, &[number(1, 3), number(2, 970)]),
        other(cta::ID, 0xdead_beef_u32.to_be_bytes().into()),
        nested(cta::TIMESTAMP, &[number(1, 1_700_000_000_000_000_001)]),
    ]
}

/// Returns an attribute that the library does not know.
pub(super) fn other(kind: u16, value: Vec<u8>) -> ConntrackAttribute {
    ConntrackAttribute::Other(DefaultNla::new(kind, value))
}

/// Serializes attributes.
pub(super) fn bytes(attributes: &[ConntrackAttribute]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}
