use socket2::{Socket, TcpKeepalive};
use std::{
    io,
    net::{IpAddr, SocketAddr},
};

/// The options that are set on a socket before it connects. None are by default.
#[derive(Clone, Debug, Default)]
pub(crate) struct SocketOptions {
    /// The local address to bind to. Must be of the family of the remote address; `None` leaves it to the kernel.
    pub(crate) source_ip: Option<IpAddr>,
    /// Keep-alive probes; `None` leaves them off.
    pub(crate) keep_alive: Option<TcpKeepalive>,
    /// `TCP_NODELAY`
    pub(crate) nodelay: bool,
}

impl SocketOptions {
    /// Applies the options to a TCP socket.
    pub(super) fn apply_to_tcp(&self, socket: &Socket) -> io::Result<()> {
        if let Some(probes) = &self.keep_alive {
            socket.set_tcp_keepalive(probes)?;
        }
        if self.nodelay {
            socket.set_tcp_nodelay(true)?;
        }
        self.bind(socket)
    }

    /// Binds a socket of any kind to the source address, with a port that the kernel chooses.
    pub(crate) fn bind(&self, socket: &Socket) -> io::Result<()> {
        match self.source_ip {
            Some(source) => socket.bind(&SocketAddr::new(source, 0).into()),
            None => Ok(()),
        }
    }
}
