use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Text;

/// The two addresses of a connection. Whose they are, and on which side of a NAT, depends on the record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct AddrTuple {
    /// Source address.
    #[serde(rename = "srcIP")]
    pub src_ip: Text,
    /// Source port.
    pub src_port: u16,
    /// Destination address.
    #[serde(rename = "dstIP")]
    pub dst_ip: Text,
    /// Destination port.
    pub dst_port: u16,
}

impl AddrTuple {
    /// The addresses of a connection between two sockets; an unknown one is left empty.
    pub fn new(src: impl Into<Option<SocketAddr>>, dst: impl Into<Option<SocketAddr>>) -> Self {
        let parts = |addr: Option<SocketAddr>| match addr {
            Some(addr) => (addr.ip().into(), addr.port()),
            None => Default::default(),
        };
        let ((src_ip, src_port), (dst_ip, dst_port)) = (parts(src.into()), parts(dst.into()));
        AddrTuple { src_ip, src_port, dst_ip, dst_port }
    }

    /// The same connection as its other end sees it, unless there is NAT in between: source and destination
    /// swapped.
    pub fn reversed(&self) -> Self {
        AddrTuple {
            src_ip: self.dst_ip.clone(),
            src_port: self.dst_port,
            dst_ip: self.src_ip.clone(),
            dst_port: self.src_port,
        }
    }
}
