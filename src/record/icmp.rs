//! ICMP errors that answered a connection attempt.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Text;

/// An ICMP error that answered a SYN: who rejected it, and why.
///
/// ```
/// use nettrace::record::IcmpError;
///
/// let mut error = IcmpError::default();
/// (error.origin, error.icmp_type, error.code) = ("10.9.1.1".into(), 3, 1);
/// assert_eq!(error.to_string(), "host unreachable (ICMP type 3 code 1) said by 10.9.1.1");
/// (error.origin, error.icmp_type, error.code) = ("fd09::1".into(), 1, 3);
/// assert_eq!(error.to_string(), "address unreachable (ICMPv6 type 1 code 3) said by fd09::1");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct IcmpError {
    /// The address of the router or host that sent the error. An IPv6 address means that it is an ICMPv6 error.
    pub origin: Text,
    /// The type (RFC 792; RFC 4443 for IPv6).
    #[serde(rename = "type")]
    pub icmp_type: u8,
    /// The code within the type.
    pub code: u8,
}

impl IcmpError {
    /// Returns a short description of type and code, as in IANA's registries for ICMP and ICMPv6.
    pub fn meaning(&self) -> &'static str {
        if self.is_v6() {
            meaning_v6(self.icmp_type, self.code)
        } else {
            meaning_v4(self.icmp_type, self.code)
        }
    }

    fn is_v6(&self) -> bool {
        self.origin.contains(':')
    }
}

impl fmt::Display for IcmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.is_v6() { "ICMPv6" } else { "ICMP" };
        let IcmpError { origin, icmp_type, code } = self;
        write!(f, "{} ({protocol} type {icmp_type} code {code}) said by {origin}", self.meaning())
    }
}

fn meaning_v4(icmp_type: u8, code: u8) -> &'static str {
    match (icmp_type, code) {
        (3, 0) => "network unreachable",
        (3, 1) => "host unreachable",
        (3, 2) => "protocol unreachable",
        (3, 3) => "port unreachable",
        (3, 4) => "fragmentation needed",
        (3, 5) => "source route failed",
        (3, 6) => "destination network unknown",
        (3, 7) => "destination host unknown",
        (3, 8) => "source host isolated",
        (3, 9) => "network administratively prohibited",
        (3, 10) => "host administratively prohibited",
        (3, 11) => "network unreachable for this type of service",
        (3, 12) => "host unreachable for this type of service",
        (3, 13) => "communication administratively prohibited",
        (3, 14) => "host precedence violation",
        (3, 15) => "precedence cutoff in effect",
        (3, _) => "destination unreachable",
        (4, _) => "source quench",
        (5, _) => "redirect",
        (11, 0) => "time to live exceeded in transit",
        (11, _) => "fragment reassembly time exceeded",
        (12, _) => "parameter problem",
        _ => "error",
    }
}

fn meaning_v6(icmp_type: u8, code: u8) -> &'static str {
    match (icmp_type, code) {
        (1, 0) => "no route to destination",
        (1, 1) => "communication administratively prohibited",
        (1, 2) => "beyond scope of source address",
        (1, 3) => "address unreachable",
        (1, 4) => "port unreachable",
        (1, 5) => "source address failed ingress or egress policy",
        (1, 6) => "route rejected",
        (1, 7) => "error in source routing header",
        (1, _) => "destination unreachable",
        (2, _) => "packet too big",
        (3, 0) => "hop limit exceeded in transit",
        (3, _) => "fragment reassembly time exceeded",
        (4, _) => "parameter problem",
        _ => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_and_code_has_a_meaning() {
        for origin in ["10.0.0.1", "fd09::1", ""] {
            for (icmp_type, code) in (0..=u8::MAX).flat_map(|t| [0, 1, 255].map(|code| (t, code))) {
                let error = IcmpError { origin: origin.into(), icmp_type, code };
                assert!(!error.meaning().is_empty());
                let json = serde_json::to_string(&error).unwrap();
                assert_eq!(serde_json::from_str::<IcmpError>(&json).unwrap(), error);
            }
        }
    }
}
