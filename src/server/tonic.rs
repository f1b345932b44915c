//! Integration with tonic: the connection info of streams for `serve_with_incoming`.

use super::info::{ConnInfo, TonicConnectInfo};
#[cfg(feature = "tls")]
use super::{TlsStream, TracedStream};
use crate::connect::TracedIo;
use http::Extensions;
use tokio::net::TcpStream;
use tonic::transport::server::Connected;

impl Connected for TracedIo<TcpStream> {
    type ConnectInfo = ConnInfo;

    fn connect_info(&self) -> ConnInfo {
        let plain = self.get_ref().connect_info();
        let mut info = ConnInfo::new(self, plain.remote_addr());
        info.tonic = Some(TonicConnectInfo::Tcp(plain));
        info
    }
}

#[cfg(unix)]
impl Connected for TracedIo<tokio::net::UnixStream> {
    type ConnectInfo = ConnInfo;

    fn connect_info(&self) -> ConnInfo {
        let mut info = ConnInfo::new(self, None);
        info.tonic = Some(TonicConnectInfo::Unix(self.get_ref().connect_info()));
        info
    }
}

#[cfg(feature = "tls")]
impl<IO: TracedStream + Connected<ConnectInfo = ConnInfo>> Connected for TlsStream<IO> {
    type ConnectInfo = ConnInfo;

    fn connect_info(&self) -> ConnInfo {
        let below = self.get_ref().0.connect_info();
        let mut info = ConnInfo::new(self, below.peer);
        info.tonic = below.tonic;
        info
    }
}

/// Inserts the value that tonic itself would have inserted. tonic has one place for each type and stored [`ConnInfo`]
/// there. This costs one allocation, also while nothing is recorded.
pub(super) fn restore(extensions: &mut Extensions) {
    match extensions.get::<ConnInfo>().and_then(|info| info.tonic.clone()) {
        Some(TonicConnectInfo::Tcp(info)) => drop(extensions.insert(info)),
        #[cfg(unix)]
        Some(TonicConnectInfo::Unix(info)) => drop(extensions.insert(info)),
        None => {}
    }
}
