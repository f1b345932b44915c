//! The two addresses of a connection.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Text;

/// The source and destination address of a connection. The field that holds the tuple says whose they are, and on which
/// side of a NAT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct AddrTuple {
    /// The source address.
    #[serde(rename = "srcIP")]
    pub src_ip: Text,
    /// The source port.
    pub src_port: u16,
    /// The destination address.
    #[serde(rename = "dstIP")]
    pub dst_ip: Text,
    /// The destination port.
    pub dst_port: u16,
}

impl AddrTuple {
    /// Creates the tuple of a connection between two sockets. An unknown address is left empty.
    pub fn new(src: impl Into<Option<SocketAddr>>, dst: impl Into<Option<SocketAddr>>) -> Self {
        let parts = |addr: Option<SocketAddr>| match addr {
            Some(addr) => (addr.ip().into(), addr.port()),
            None => Default::default(),
        };
        let ((src_ip, src_port), (dst_ip, dst_port)) = (parts(src.into()), parts(dst.into()));
        AddrTuple { src_ip, src_port, dst_ip, dst_port }
    }

    /// Returns the tuple with source and destination swapped: the connection as its other end sees it, if there is no
    /// NAT.
    pub fn reversed(&self) -> Self {
        AddrTuple {
            src_ip: self.dst_ip.clone(),
            src_port: self.dst_port,
            dst_ip: self.src_ip.clone(),
            dst_port: self.src_port,
        }
    }
}
