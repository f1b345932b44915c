//! The extension with which a request names its connection.

use crate::{ConnRef, connect::TracedIo};
#[cfg(feature = "tls")]
use rustls::pki_types::CertificateDer;
use std::net::SocketAddr;
#[cfg(feature = "tls")]
use std::sync::Arc;
#[cfg(feature = "tonic-server")]
use tonic::transport::server::TcpConnectInfo;
#[cfg(all(unix, feature = "tonic-server"))]
use tonic::transport::server::UdsConnectInfo;

/// A stream that may belong to a recorded connection.
pub trait TracedStream {
    /// Returns the identity of the connection, or `None` if it is not recorded.
    fn conn_ref(&self) -> Option<&ConnRef>;

    /// Returns the certificates that the peer sent, its own first.
    #[cfg(feature = "tls")]
    fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        None
    }
}

impl<T> TracedStream for TracedIo<T> {
    fn conn_ref(&self) -> Option<&ConnRef> {
        TracedIo::conn_ref(self)
    }
}

/// The connection of a request, to be put into the request's extensions. [`TraceServerLayer`](super::TraceServerLayer)
/// links the request to it.
///
/// axum inserts it with `into_make_service_with_connect_info::<ConnInfo>()`, tonic without further setup.
#[derive(Clone, Debug, Default)]
pub struct ConnInfo {
    conn: Option<ConnRef>,
    pub(super) peer: Option<SocketAddr>,
    #[cfg(feature = "tonic-server")]
    pub(super) tonic: Option<TonicConnectInfo>,
    #[cfg(feature = "tls")]
    peer_certificates: Option<Arc<[CertificateDer<'static>]>>,
}

impl ConnInfo {
    /// Creates the info from a stream and the peer's address, if it has one.
    pub fn new(stream: &impl TracedStream, peer: impl Into<Option<SocketAddr>>) -> Self {
        ConnInfo {
            conn: stream.conn_ref().cloned(),
            peer: peer.into(),
            #[cfg(feature = "tonic-server")]
            tonic: None,
            #[cfg(feature = "tls")]
            peer_certificates: stream.peer_certificates().map(Arc::from),
        }
    }

    /// Returns the identity of the connection, or `None` if it is not recorded.
    pub fn conn_ref(&self) -> Option<&ConnRef> {
        self.conn.as_ref()
    }

    /// Returns the address of the peer, if it has one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Returns the certificates that the peer sent, its own first.
    #[cfg(feature = "tls")]
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.peer_certificates.as_deref()
    }
}

/// The value that tonic itself puts into the extensions of a request, where it looks for the addresses of the
/// connection.
#[cfg(feature = "tonic-server")]
#[derive(Clone, Debug)]
pub(super) enum TonicConnectInfo {
    Tcp(TcpConnectInfo),
    #[cfg(unix)]
    Unix(UdsConnectInfo),
}
