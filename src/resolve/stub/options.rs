//! The settings of a stub resolver that resolv.conf cannot express.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
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
}

impl Default for Options {
    fn default() -> Self {
        Self {
            strategy: IpStrategy::default(),
            source_ip: None,
            udp_payload_size: Some(DEFAULT_UDP_PAYLOAD_SIZE),
            skip: None,
        }
    }
}

/// The program's callback that may exclude a nameserver.
#[derive(Clone)]
pub(super) struct SkipNameserver(Arc<dyn Fn(IpAddr, u16) -> Option<String> + Send + Sync>);

impl SkipNameserver {
    pub(super) fn new(skip: impl Fn(IpAddr, u16) -> Option<String> + Send + Sync + 'static) -> Self {
        SkipNameserver(Arc::new(skip))
    }

    /// Returns the reason to skip this nameserver; `None` if it is to be asked.
    pub(super) fn call(&self, server: SocketAddr) -> Option<String> {
        (self.0)(server.ip(), server.port())
    }
}

impl fmt::Debug for SkipNameserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SkipNameserver(..)")
    }
}
