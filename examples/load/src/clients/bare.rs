//! hyper-util's client over a minimal connector without extras.

use super::{
    hyper::{HyperClient, Pool, pool},
    names::Names,
    tls,
};
use crate::{BoxError, args::Args};
use http::Uri;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tower::Service;

pub type Bare = HyperClient<Pool<HttpsConnector<BareConnector>>>;

pub fn bare(args: &Args) -> Result<Bare, BoxError> {
    let tcp = BareConnector(Names::new(args.nameserver)?);
    HyperClient::new(args, pool(args, HttpsConnector::from((tcp, tls::config(args)?))))
}

/// A minimal connector: it looks up the name and connects a socket.
#[derive(Clone)]
pub struct BareConnector(Names);

impl Service<Uri> for BareConnector {
    type Response = TokioIo<BareStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let mut names = self.0.clone();
        Box::pin(async move {
            let host = uri.host().ok_or("a URL without a host")?;
            let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
            let ip = match host.parse() {
                Ok(ip) => ip,
                Err(_) => names.call(host.parse()?).await?.next().ok_or("a name without an address")?.ip(),
            };
            let stream = TcpStream::connect((ip, port)).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(BareStream(stream)))
        })
    }
}

/// A stream without connection metadata.
pub struct BareStream(TcpStream);

impl Connection for BareStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for BareStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for BareStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
