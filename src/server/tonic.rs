//! For tonic: what a stream of `serve_with_incoming` says of its connection.

use super::ConnInfo;
#[cfg(feature = "tls")]
use super::{TlsStream, TracedStream};
use crate::connect::TracedIo;
use http::Extensions;
use tokio::net::TcpStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

impl Connected for TracedIo<TcpStream> {
    type ConnectInfo = ConnInfo;

    fn connect_info(&self) -> ConnInfo {
        let mut info = ConnInfo::new(self, self.get_ref().peer_addr().ok());
        info.local = self.get_ref().local_addr().ok();
        info
    }
}

#[cfg(unix)]
impl Connected for TracedIo<tokio::net::UnixStream> {
    type ConnectInfo = ConnInfo;

    fn connect_info(&self) -> ConnInfo {
        ConnInfo::new(self, None)
    }
}

#[cfg(feature = "tls")]
impl<IO: TracedStream + Connected<ConnectInfo = ConnInfo>> Connected for TlsStream<IO> {
    type ConnectInfo = ConnInfo;

    fn connect_info(&self) -> ConnInfo {
        let below = self.get_ref().0.connect_info();
        let mut info = ConnInfo::new(self, below.peer);
        info.local = below.local;
        info
    }
}

/// What tonic looks for when a request is asked for its addresses, and would be there without us.
pub(super) fn restore_addresses(extensions: &mut Extensions) {
    let Some(ConnInfo { local, peer: Some(peer), .. }) = extensions.get::<ConnInfo>() else { return };
    let info = TcpConnectInfo { local_addr: *local, remote_addr: Some(*peer) };
    extensions.insert(info);
}
