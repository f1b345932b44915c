//! Connections in memory, for layers over them.

use std::{
    future::ready,
    io::{self, IoSlice},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use nettrace::{
    TraceSink,
    resolve::{IpStrategy, StubResolver},
};
use test_support::{pipe::Pipe, pki::Authority};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_rustls::TlsAcceptor;
use tower::{Service, service_fn};

pub(crate) fn run<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub(crate) fn uri(scheme: &str) -> Uri {
    format!("{scheme}://pipe.test").parse().unwrap()
}

/// A connector of one connection, and the other end of that.
pub(crate) fn pipe() -> (
    impl Service<Uri, Response = TokioIo<Pipe>, Error = io::Error, Future: Unpin + Send> + Clone + Send,
    DuplexStream,
) {
    let (here, there) = tokio::io::duplex(1 << 16);
    let here = Arc::new(Mutex::new(Some(Pipe(here))));
    let connector = move |_: Uri| {
        let here = here.lock().unwrap().take();
        ready(here.map(TokioIo::new).ok_or(io::ErrorKind::NotFound.into()))
    };
    (service_fn(connector), there)
}

pub(crate) fn acceptor() -> TlsAcceptor {
    let authority = Authority::new("nettrace test CA");
    TlsAcceptor::from(Arc::new(authority.issue(&["pipe.test"]).server()))
}

/// Reads and writes in every way, up to the end of the stream.
pub(crate) async fn exchange(
    here: impl hyper::rt::Read + hyper::rt::Write + Unpin,
    mut there: impl AsyncRead + AsyncWrite + Unpin,
) {
    let mut here = TokioIo::new(here);
    here.write_all(b"hello").await.unwrap();
    assert_eq!(here.write_vectored(&[IoSlice::new(b", world")]).await.unwrap(), 7);
    here.flush().await.unwrap();
    there.write_all(b"yes").await.unwrap();
    there.flush().await.unwrap();
    there.shutdown().await.unwrap();
    let mut received = Vec::new();
    here.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"yes");
    drop(there);
    let _ = here.write(b"too late").await;
    let _ = here.shutdown().await;
}

/// Returns a resolver that asks these nameservers alone, for IPv4 addresses.
pub(crate) fn resolver(sink: &TraceSink, nameservers: impl IntoIterator<Item = SocketAddr>) -> StubResolver {
    StubResolver::builder(sink)
        .nameservers(nameservers)
        .resolv_conf(None)
        .hosts_file(None)
        .search([""; 0])
        .ip_strategy(IpStrategy::Ipv4Only)
        .build()
        .unwrap()
}
