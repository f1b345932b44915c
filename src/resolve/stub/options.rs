//! The settings of a stub resolver that resolv.conf cannot express.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// The UDP payload size, in bytes, that fits every path unfragmented (DNS flag day 2020).
const DEFAULT_UDP_PAYLOAD_SIZE: u16 = 1232;

/// Which addresses of a name are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum IpStrategy {
    /// IPv4 (A) and IPv6 (AAAA), in parallel unless `single-request` is set.
    #[default]
    Both,
    /// Only IPv4 addresses.
    Ipv4Only,
    /// Only IPv6 addresses.
    Ipv6Only,
}

impl IpStrategy {
    /// Returns `true` if addresses of this family are asked for.
    pub(super) fn wants(self, address: &IpAddr) -> bool {
        match self {
            Self::Both => true,
            Self::Ipv4Only => address.is_ipv4(),
            Self::Ipv6Only => address.is_ipv6(),
        }
    }
}

/// The settings that a program makes with the builder and no file can.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) strategy: IpStrategy,
    /// The local address that nameservers are asked from.
    pub(super) source_ip: Option<IpAddr>,
    /// The UDP payload size offered with EDNS, in bytes; `None` without EDNS.
    pub(super) udp_payload_size: Option<u16>,
    pub(super) skip: Option<SkipNameserver>,
    /// Whether HTTPS records are asked for, too, to be recorded.
    pub(super) https_records: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strategy: IpStrategy::default(),
            source_ip: None,
            udp_payload_size: Some(DEFAULT_UDP_PAYLOAD_SIZE),
            skip: None,
            https_records: false,
        }
    }
}

/// Returns the source address to use towards `server`. None is used for the other family, nor for a nameserver on the
/// loopback interface, which is not reachable from other addresses.
pub(super) fn source_for(source_ip: Option<IpAddr>, server: SocketAddr) -> Option<IpAddr> {
    source_ip.filter(|source| source.is_ipv4() == server.is_ipv4() && !server.ip().is_loopback())
}

/// The program's callback that may exclude a nameserver.
#[derive(Clone)]
pub(super) struct SkipNameserver(Arc<dyn Fn(IpAddr, u16) -> Option<String> + Send + Sync>);

impl SkipNameserver {
    pub(super) fn new(skip: impl Fn(IpAddr, u16) -> Option<String> + Send + Sync + 'static) -> Self {
        SkipNameserver(Arc::new(skip))
    }

    /// Returns the reason to skip this nameserver; `None` if it is to be asked. A panic is a reason.
    pub(super) fn call(&self, server: SocketAddr) -> Option<String> {
        let answer = catch_unwind(AssertUnwindSafe(|| (self.0)(server.ip(), server.port())));
        answer.unwrap_or_else(|_| Some("the callback panicked".to_owned()))
    }
}

impl fmt::Debug for SkipNameserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SkipNameserver(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_address_is_used_for_remote_servers_of_its_family() {
        let source: IpAddr = [192, 0, 2, 9].into();
        let towards = |server: &str| source_for(Some(source), server.parse().unwrap());
        assert_eq!(towards("192.0.2.1:53"), Some(source));
        assert_eq!(towards("127.0.0.53:53"), None);
        assert_eq!(towards("[2001:db8::1]:53"), None);
    }
}
