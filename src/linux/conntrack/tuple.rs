//! The addresses by which the kernel knows a connection.

use crate::sink::ConnRef;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A connection's protocol and addresses as its socket sees them, before NAT.
///
/// The kernel finds an entry by them (`struct nf_conntrack_tuple`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tuple {
    pub(super) is_udp: bool,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

impl Tuple {
    /// A tuple that no connection has.
    pub(super) const NONE: Tuple = {
        let nobody = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Tuple { is_udp: false, local: nobody, remote: nobody }
    };

    /// Returns the tuple of a connection; `None` as long as one of its addresses is not known.
    pub(super) fn of(conn: &ConnRef) -> Option<Self> {
        let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let (local, remote) = (canonical(conn.local_addr()?), canonical(conn.peer_addr()?));
        Some(Tuple { is_udp: conn.is_udp(), local, remote })
    }
}
