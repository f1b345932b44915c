//! The order in which addresses are tried: destination address selection (RFC 6724 section 6).
//!
//! The rules are those that Go's resolver applies. Rules 3, 4 and 7 need knowledge that only the kernel has.

use std::{
    cmp::Reverse,
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
};

/// Longer lists keep the nameserver's order, since each address costs a socket.
const MAX_SORTED: usize = 256;

/// Sorts `addresses` so that the best destination comes first.
///
/// A UDP socket is connected to each address, which sends nothing, to learn the source address that the kernel would
/// use. Lists that the rules cannot reorder (one address, only IPv4) are left alone.
pub(super) fn sort(addresses: &mut [IpAddr]) {
    let worthwhile = (2..=MAX_SORTED).contains(&addresses.len()) && addresses.iter().any(IpAddr::is_ipv6);
    if worthwhile {
        sort_with(addresses, source_address);
    }
}

fn sort_with(addresses: &mut [IpAddr], source: impl Fn(IpAddr) -> Option<IpAddr>) {
    // The sort is stable, which is rule 10: otherwise leave the order unchanged.
    addresses.sort_by_cached_key(|&address| Rank::of(address, source(address)));
}

/// Returns the source address that the kernel would use; `None` if the destination is unreachable.
fn source_address(destination: IpAddr) -> Option<IpAddr> {
    let unspecified = match destination {
        IpAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        IpAddr::V6(_) => SocketAddr::from(([0; 16], 0)),
    };
    let socket = UdpSocket::bind(unspecified).ok()?;
    // Any port serves, except that some systems refuse 0.
    socket.connect((destination, 53)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The rank of an address; lower is better. A rank instead of the RFC's comparison of pairs guarantees a total order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Usable(Preference),
    /// Rule 1: avoid unusable destinations. They keep their order.
    Unusable,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Preference {
    /// Rule 2: prefer matching scope.
    scope_differs: bool,
    /// Rule 5: prefer matching label.
    label_differs: bool,
    /// Rule 6: prefer higher precedence.
    precedence: Reverse<u8>,
    /// Rule 8: prefer smaller scope.
    scope: u8,
    /// Rule 9: use the longest matching prefix, in bits. Always 0 for IPv4, where it would defeat DNS round-robin. The
    /// families are never compared by it, since no IPv6 address has the precedence of IPv4.
    matching_prefix: Reverse<u32>,
}

impl Rank {
    fn of(address: IpAddr, source: Option<IpAddr>) -> Self {
        let Some(source) = source else { return Self::Unusable };
        let (address, source) = (address.to_canonical(), source.to_canonical());
        let (destination, origin) = (Attributes::of(address), Attributes::of(source));
        let matching_prefix = match (address, source) {
            (IpAddr::V6(address), IpAddr::V6(source)) => common_prefix_len(address, source),
            _ => 0,
        };
        Self::Usable(Preference {
            scope_differs: destination.scope != origin.scope,
            label_differs: destination.label != origin.label,
            precedence: Reverse(destination.precedence),
            scope: destination.scope,
            matching_prefix: Reverse(matching_prefix),
        })
    }
}

/// The attributes of an address: policy table (RFC 6724 section 2.1) and scope (section 3.1).
struct Attributes {
    scope: u8,
    precedence: u8,
    label: u8,
}

/// An entry of the policy table.
#[derive(Clone, Copy)]
struct Policy {
    prefix: Ipv6Addr,
    prefix_len: u32,
    precedence: u8,
    label: u8,
}

impl Policy {
    const fn new(prefix: Ipv6Addr, prefix_len: u32, precedence: u8, label: u8) -> Self {
        Self { prefix, prefix_len, precedence, label }
    }

    fn matches(self, address: Ipv6Addr) -> bool {
        common_bits(self.prefix, address) >= self.prefix_len
    }
}

/// The default policy table, longest prefixes first. The last entry matches every address.
const POLICY: [Policy; 9] = [
    Policy::new(Ipv6Addr::LOCALHOST, 128, 50, 0),
    Policy::new(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, 35, 4),
    Policy::new(Ipv6Addr::UNSPECIFIED, 96, 1, 3),
    Policy::new(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, 5, 5),
    Policy::new(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, 30, 2),
    Policy::new(Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 0), 16, 1, 12),
    Policy::new(Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, 1, 11),
    Policy::new(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, 3, 13),
    Policy::new(Ipv6Addr::UNSPECIFIED, 0, 40, 1),
];

const SCOPE_LINK_LOCAL: u8 = 0x2;
const SCOPE_SITE_LOCAL: u8 = 0x5;
const SCOPE_GLOBAL: u8 = 0xe;

impl Attributes {
    fn of(address: IpAddr) -> Self {
        let mapped = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let Policy { precedence, label, .. } =
            POLICY.into_iter().find(|policy| policy.matches(mapped)).unwrap_or(POLICY[POLICY.len() - 1]);
        Self { scope: scope(address), precedence, label }
    }
}

fn scope(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) if v4.is_loopback() || v4.is_link_local() => SCOPE_LINK_LOCAL,
        IpAddr::V6(v6) if v6.is_loopback() || v6.is_unicast_link_local() => SCOPE_LINK_LOCAL,
        IpAddr::V6(v6) if v6.is_multicast() => v6.octets()[1] & 0xf,
        IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfec0 => SCOPE_SITE_LOCAL,
        _ => SCOPE_GLOBAL,
    }
}

/// Returns the length of the common prefix in bits, of the 64 that are not the interface identifier (RFC 6724 section
/// 2.2).
fn common_prefix_len(a: Ipv6Addr, b: Ipv6Addr) -> u32 {
    common_bits(a, b).min(64)
}

fn common_bits(a: Ipv6Addr, b: Ipv6Addr) -> u32 {
    (a.to_bits() ^ b.to_bits()).leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sorts destinations, each given with the source address that the kernel would use.
    fn sorted(lines: &[(&str, Option<&str>)]) -> Vec<String> {
        let parse = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut addresses: Vec<_> = lines.iter().map(|(address, _)| parse(address)).collect();
        sort_with(&mut addresses, |address| {
            lines.iter().find(|(a, _)| parse(a) == address).and_then(|(_, source)| source.map(parse))
        });
        addresses.iter().map(IpAddr::to_string).collect()
    }

    // The examples of RFC 6724 section 10.2.

    #[test]
    fn prefer_matching_scope() {
        assert_eq!(
            sorted(&[("198.51.100.121", Some("198.51.100.117")), ("2001:db8:1::1", Some("2001:db8:1::2"))]),
            ["2001:db8:1::1", "198.51.100.121"]
        );
        assert_eq!(
            sorted(&[("2001:db8:1::1", Some("fe80::1")), ("198.51.100.121", Some("198.51.100.117"))]),
            ["198.51.100.121", "2001:db8:1::1"]
        );
    }

    #[test]
    fn prefer_higher_precedence() {
        assert_eq!(
            sorted(&[("10.1.2.3", Some("10.1.2.4")), ("2001:db8:1::1", Some("2001:db8:1::2"))]),
            ["2001:db8:1::1", "10.1.2.3"]
        );
    }

    #[test]
    fn prefer_smaller_scope() {
        assert_eq!(
            sorted(&[("2001:db8:1::1", Some("2001:db8:1::2")), ("fe80::1", Some("fe80::2"))]),
            ["fe80::1", "2001:db8:1::1"]
        );
    }

    #[test]
    fn prefer_matching_label() {
        assert_eq!(
            sorted(&[
                ("2002:c633:6401::1", Some("2002:c633:6401::2")),
                ("2001:db8:1::1", Some("2002:c633:6401::2"))
            ]),
            ["2002:c633:6401::1", "2001:db8:1::1"]
        );
    }

    #[test]
    fn prefer_the_longest_matching_prefix_for_ipv6_only() {
        assert_eq!(
            sorted(&[("2001:db8:3ffe::1", Some("2001:db8:1::2")), ("2001:db8:1::1", Some("2001:db8:1::2"))]),
            ["2001:db8:1::1", "2001:db8:3ffe::1"]
        );
        assert_eq!(
            sorted(&[("10.9.9.9", Some("10.1.2.4")), ("10.1.2.3", Some("10.1.2.4"))]),
            ["10.9.9.9", "10.1.2.3"]
        );
    }

    #[test]
    fn unusable_destinations_come_last_in_their_own_order() {
        assert_eq!(
            sorted(&[("2001:db8::1", None), ("2001:db8::2", None), ("192.0.2.1", Some("192.0.2.9"))]),
            ["192.0.2.1", "2001:db8::1", "2001:db8::2"]
        );
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert_eq!(
            sorted(&[("::ffff:192.0.2.1", Some("::ffff:192.0.2.9")), ("192.0.2.2", Some("192.0.2.9"))]),
            ["::ffff:192.0.2.1", "192.0.2.2"]
        );
    }

    #[test]
    fn the_kernel_chooses_the_source_address() {
        assert_eq!(source_address([127, 0, 0, 1].into()), Some([127, 0, 0, 1].into()));
    }
}
