//! A client that trusts one test authority, and connectors for it.

use std::{error::Error, io, net::SocketAddr};

use hyper_util::rt::TokioIo;
use nettrace::{
    TraceSink,
    record::TlsTunnelTrace,
    tls::{ConfigParts, MaybeTlsStream, Roots, TlsError, TlsVersion, TraceTlsLayer, TraceTlsLayerBuilder},
};
use rustls::{SupportedProtocolVersion, version};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::{Layer, ServiceExt, service_fn};

use test_support::pki::Authority;

pub(crate) type Tcp = TokioIo<TcpStream>;

pub(crate) const VERSIONS: [(&str, TlsVersion, &SupportedProtocolVersion); 2] =
    [("TLSv1.2", TlsVersion::Tls12, &version::TLS12), ("TLSv1.3", TlsVersion::Tls13, &version::TLS13)];

/// A client's sink, and the authority that it trusts.
pub(crate) struct TestClient {
    pub(crate) sink: TraceSink,
    pub(crate) authority: Authority,
}

impl TestClient {
    pub(crate) fn new() -> Self {
        TestClient { sink: TraceSink::new(), authority: Authority::new("nettrace test CA") }
    }

    pub(crate) fn builder(&self) -> TraceTlsLayerBuilder<ConfigParts> {
        TraceTlsLayer::builder(&self.sink).roots(Roots::from_pem(self.authority.pem()).unwrap())
    }

    /// Returns the only tunnel so far.
    #[track_caller]
    pub(crate) fn tunnel(&self) -> TlsTunnelTrace {
        let tunnels = self.tunnels();
        let [tunnel] = tunnels.as_slice() else { panic!("{} tunnels", tunnels.len()) };
        tunnel.clone()
    }

    pub(crate) fn tunnels(&self) -> Vec<TlsTunnelTrace> {
        self.sink.snapshot("test").tls_tunnels.into_vec()
    }
}

/// Connects to `address`, whatever host the URI has.
pub(crate) async fn connect(
    layer: &TraceTlsLayer,
    address: SocketAddr,
    uri: &str,
) -> Result<MaybeTlsStream<Tcp>, Box<dyn Error + Send + Sync>> {
    layer.layer(service_fn(move |_| tcp(address))).oneshot(uri.parse().unwrap()).await
}

pub(crate) async fn tcp(address: SocketAddr) -> io::Result<Tcp> {
    TcpStream::connect(address).await.map(TokioIo::new)
}

/// Returns the error of a failed handshake with the server name `web.test`.
pub(crate) async fn refused(layer: &TraceTlsLayer, address: SocketAddr) -> TlsError {
    let error = connect(layer, address, "https://web.test/").await.expect_err("no connection");
    *error.downcast().expect("an error of TLS")
}

/// Sends `ping` and receives its echo.
pub(crate) async fn exchange(stream: MaybeTlsStream<Tcp>) -> io::Result<MaybeTlsStream<Tcp>> {
    let mut stream = TokioIo::new(stream);
    stream.write_all(b"ping").await?;
    stream.flush().await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    assert_eq!(&answer, b"ping");
    Ok(stream.into_inner())
}
