//! What a request can be told of its connection.

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

/// A stream that may be a connection of a trace.
pub trait TracedStream {
    /// The identity of the connection; `None` when it is not traced.
    fn conn_ref(&self) -> Option<&ConnRef>;

    /// The certificates of the peer, its own first, where it has shown some.
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

/// The connection of a request, for the request's extensions: what [`TraceServerLayer`](super::TraceServerLayer) links the
/// request by.
///
/// axum puts it there with `into_make_service_with_connect_info::<ConnInfo>()`, tonic by itself.
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
    /// Of a stream, and the peer's address if it has one.
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

    /// The identity of the connection; `None` when it is not traced.
    pub fn conn_ref(&self) -> Option<&ConnRef> {
        self.conn.as_ref()
    }

    /// The address of the peer, where there is one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The certificates of the peer, its own first, where it has shown some.
    #[cfg(feature = "tls")]
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.peer_certificates.as_deref()
    }
}

/// What tonic itself would put into the extensions of a request, where it looks for the addresses of a connection.
#[cfg(feature = "tonic-server")]
#[derive(Clone, Debug)]
pub(super) enum TonicConnectInfo {
    Tcp(TcpConnectInfo),
    #[cfg(unix)]
    Unix(UdsConnectInfo),
}
