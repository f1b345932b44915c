//! Integration with axum: listeners, and the connection info of requests.

#[cfg(feature = "tls")]
use super::TlsListener;
use super::{
    Accept, ConnInfo, TraceListener, TracedStream,
    accept::{ACCEPT_BACKOFF, is_connection_error},
};
use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use std::{any::Any, future::poll_fn, io, net::SocketAddr};
use tokio::io::{AsyncRead, AsyncWrite};

impl<L> Listener for TraceListener<L>
where
    L: Send + 'static,
    TraceListener<L>: Accept<Io: AsyncRead + AsyncWrite + Unpin + Send + 'static, Addr: Send>,
{
    type Io = <Self as Accept>::Io;
    type Addr = <Self as Accept>::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        accept(self).await
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Accept::local_addr(self)
    }
}

#[cfg(feature = "tls")]
impl<A> Listener for TlsListener<A>
where
    A: Accept<Io: AsyncRead + AsyncWrite + TracedStream + Unpin + Send + 'static, Addr: Send + Unpin>
        + Send
        + 'static,
{
    type Io = <Self as Accept>::Io;
    type Addr = A::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        accept_with(self, || std::future::ready(())).await // it makes its pauses itself, in which handshakes go on
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Accept::local_addr(self)
    }
}

/// Accepts a connection. Like axum, it retries after an error.
pub(crate) async fn accept<A: Accept>(listener: &mut A) -> (A::Io, A::Addr) {
    accept_with(listener, || tokio::time::sleep(ACCEPT_BACKOFF)).await
}

async fn accept_with<A: Accept, P: Future<Output = ()>>(
    listener: &mut A,
    pause: impl Fn() -> P,
) -> (A::Io, A::Addr) {
    loop {
        match poll_fn(|cx| listener.poll_accept(cx)).await {
            Ok(accepted) => return accepted,
            Err(error) if is_connection_error(&error) => {}
            Err(error) => {
                tracing::warn!(target: "nettrace", "no connection can be accepted for now: {error}");
                pause().await;
            }
        }
    }
}

/// Makes `into_make_service_with_connect_info::<ConnInfo>()` work.
impl<L> Connected<IncomingStream<'_, TraceListener<L>>> for ConnInfo
where
    TraceListener<L>: Listener<Io: TracedStream, Addr: 'static>,
{
    fn connect_info(stream: IncomingStream<'_, TraceListener<L>>) -> Self {
        info(&stream)
    }
}

/// Makes `into_make_service_with_connect_info::<ConnInfo>()` work.
#[cfg(feature = "tls")]
impl<A: Accept> Connected<IncomingStream<'_, TlsListener<A>>> for ConnInfo
where
    TlsListener<A>: Listener<Io: TracedStream, Addr: 'static>,
{
    fn connect_info(stream: IncomingStream<'_, TlsListener<A>>) -> Self {
        info(&stream)
    }
}

pub(crate) fn info<L>(stream: &IncomingStream<'_, L>) -> ConnInfo
where
    L: Listener<Io: TracedStream, Addr: 'static>,
{
    let peer: &dyn Any = stream.remote_addr();
    ConnInfo::new(stream.io(), peer.downcast_ref::<SocketAddr>().copied())
}
