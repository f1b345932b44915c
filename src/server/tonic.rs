//! For tonic: what a stream of `serve_with_incoming` says of its connection.

use super::ConnInfo;
#[cfg(feature = "tls")]
use super::{TlsStream, TracedStream};
use crate::connect::TracedIo;
use http::Extensions;
use tokio::net::TcpStream;
#[cfg(unix)]
use tonic::transport::server::UdsConnectInfo;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// What a stream says without us. tonic looks for it when a request is asked for its addresses.
#[derive(Clone, Debug)]
pub(super) enum Plain {
    Tcp(TcpConnectInfo),
    #[cfg(unix)]
    Unix(UdsConnectInfo),
}

impl Connected for TracedIo<TcpStream> {
    type ConnectInfo = ConnInfo;

    fn connect_info(&self) -> ConnInfo {
        let plain = self.get_ref().connect_info();
        let mut info = ConnInfo::new(self, plain.remote_addr());
        info.plain = Some(Plain::Tcp(plain));
        info
    }
}

#[cfg(unix)]
impl Connected for TracedIo<tokio::net::UnixStream> {
    type ConnectInfo = ConnInfo;

    fn connect_info(&self) -> ConnInfo {
        let mut info = ConnInfo::new(self, None);
        info.plain = Some(Plain::Unix(self.get_ref().connect_info()));
        info
    }
}

#[cfg(feature = "tls")]
impl<IO: TracedStream + Connected<ConnectInfo = ConnInfo>> Connected for TlsStream<IO> {
    type ConnectInfo = ConnInfo;

    fn connect_info(&self) -> ConnInfo {
        let below = self.get_ref().0.connect_info();
        let mut info = ConnInfo::new(self, below.peer);
        info.plain = below.plain;
        info
    }
}

/// What would be there without us. One allocation also while nothing is recorded: tonic has one place for each type,
/// and put ours there.
pub(super) fn restore(extensions: &mut Extensions) {
    match extensions.get::<ConnInfo>().and_then(|info| info.plain.clone()) {
        Some(Plain::Tcp(info)) => drop(extensions.insert(info)),
        #[cfg(unix)]
        Some(Plain::Unix(info)) => drop(extensions.insert(info)),
        None => {}
    }
}
