//! Netlink attributes (`struct nlattr`), and those of conntrack that netlink-packet-netfilter does not know.
//!
//! [`attributes`] does what `NlasIterator` of netlink-packet-core does, and is tested against it. It is written here
//! because an entry has some thirty attributes: they take 50 instructions each this way, and 200 that way.

use netlink_packet_core::{NLA_HEADER_SIZE, NLA_TYPE_MASK, NlaBuffer, Parseable};
use std::iter;

/// Numbers of attributes (`enum ctattr_type` of `nfnetlink_conntrack.h`).
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

/// Numbers of attributes within a tuple (`enum ctattr_tuple`).
pub(super) mod cta_tuple {
    pub(in crate::linux::conntrack) const IP: u16 = 1;
    pub(in crate::linux::conntrack) const PROTO: u16 = 2;
    pub(in crate::linux::conntrack) const ZONE: u16 = 3;
}

/// The number of `CTA_PROTO_NUM`, the protocol of a tuple (`enum ctattr_l4proto`).
pub(super) const PROTO_NUM: u16 = 1;

/// The number of `CTA_PROTOINFO_TCP`, what is known of a TCP connection (`enum ctattr_protoinfo`).
pub(super) const PROTOINFO_TCP: u16 = 1;

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute<'a> {
    /// The attribute's number, without the flags `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
    pub(super) kind: u16,
    pub(super) value: &'a [u8],
    buffer: NlaBuffer<&'a [u8]>,
}

impl<'a> Attribute<'a> {
    /// Parses the attribute as the library does; `None` where the library refuses it.
    pub(super) fn parse<T: Parseable<NlaBuffer<&'a [u8]>>>(&self) -> Option<T> {
        T::parse(&self.buffer).ok()
    }

    pub(super) fn be_u16(&self) -> Option<u16> {
        self.value.try_into().ok().map(u16::from_be_bytes)
    }

    pub(super) fn be_u32(&self) -> Option<u32> {
        self.value.try_into().ok().map(u32::from_be_bytes)
    }

    fn be_u64(&self) -> Option<u64> {
        self.value.try_into().ok().map(u64::from_be_bytes)
    }
}

/// Iterates over attributes until one is malformed.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    iter::from_fn(move || {
        let &[length0, length1, kind0, kind1, ..] = bytes else { return None };
        let length = usize::from(u16::from_ne_bytes([length0, length1]));
        let value = bytes.get(NLA_HEADER_SIZE..length)?;
        let buffer = NlaBuffer::new(&bytes[..length]);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind: u16::from_ne_bytes([kind0, kind1]) & NLA_TYPE_MASK, value, buffer })
    })
}

/// The counters of an entry in one direction (`enum ctattr_counters`).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl Counters {
    /// Parses as much as there is.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut counters = Counters::default();
        for attribute in attributes(bytes) {
            match attribute.kind {
                1 => counters.packets = attribute.be_u64().unwrap_or_default(),
                2 => counters.bytes = attribute.be_u64().unwrap_or_default(),
                _ => {}
            }
        }
        counters
    }
}

/// When an entry was made and given up, in nanoseconds since the Unix epoch (`enum ctattr_timestamp`).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lifetime {
    pub(super) start: u64,
    /// 0 as long as the entry is there.
    pub(super) stop: u64,
}

impl Lifetime {
    /// Parses as much as there is.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut lifetime = Lifetime::default();
        for attribute in attributes(bytes) {
            match attribute.kind {
                1 => lifetime.start = attribute.be_u64().unwrap_or_default(),
                2 => lifetime.stop = attribute.be_u64().unwrap_or_default(),
                _ => {}
            }
        }
        lifetime
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::conntrack::sample;
    use netlink_packet_core::NlasIterator;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn attributes_are_parsed_as_by_the_library(
            parts in prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..9)), 0..5),
            at in 0..60_usize, with in any::<u8>(), cut in 0..60_usize,
        ) {
            let parts: Vec<_> = parts.into_iter().map(|(kind, value)| sample::other(kind, value)).collect();
            let mut bytes = sample::bytes(&parts);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = with;
            }
            bytes.truncate(bytes.len().max(cut) - cut);
            let library = NlasIterator::new(&bytes).map_while(|attribute| {
                let attribute = attribute.ok()?;
                let value = attribute.into_inner().get(4..usize::from(attribute.length()))?;
                Some((attribute.kind(), value))
            });
            let own = attributes(&bytes).map(|attribute| (attribute.kind, attribute.value));
            prop_assert_eq!(own.collect::<Vec<_>>(), library.collect::<Vec<_>>());
        }
    }
}
