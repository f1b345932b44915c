//! Free ports, for servers that cannot choose one themselves.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// Returns ports of 127.0.0.1 that are free for TCP and UDP. Another process may take one before it is used.
pub fn free_ports<const N: usize>() -> [u16; N] {
    // All are held until the last one is found, so that they differ.
    let bound = [(); N].map(|()| bind());
    bound.each_ref().map(|(tcp, _)| tcp.local_addr().expect("an address").port())
}

fn bind() -> (TcpListener, UdpSocket) {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().expect("an address")) {
            return (tcp, udp);
        }
    }
}
