//! Accepted connections whose requests are read from the wire.

use super::{
    WireIo,
    context::{Side, WireContext},
    reader::WireReader,
};
use crate::{
    ConnRef,
    server::{Accept, Incoming, TracedStream},
    sink::TraceSink,
};
use std::{
    future::poll_fn,
    io,
    task::{Context, Poll, ready},
};

impl<T: TracedStream> WireIo<T> {
    /// Wraps an accepted connection: the requests that come over it are recorded into `sink`, unless a
    /// [`TraceServerLayer`](crate::server::TraceServerLayer) around the service records them.
    ///
    /// Does nothing if the connection is not recorded.
    pub fn accepted(sink: &TraceSink, io: T) -> Self {
        let conn = io.conn_ref().filter(|conn| conn.has_unrecorded_requests(sink)).cloned();
        let reader = conn.map(|conn| {
            let is_secure = conn.is_secure();
            WireReader::new(WireContext {
                sink: sink.clone(),
                conn,
                side: Side::Server,
                is_secure,
                dialed: None,
            })
        });
        WireIo::new(io, reader)
    }
}

impl<T: TracedStream> TracedStream for WireIo<T> {
    fn conn_ref(&self) -> Option<&ConnRef> {
        self.get_ref().conn_ref()
    }

    #[cfg(feature = "tls")]
    fn peer_certificates(&self) -> Option<&[rustls::pki_types::CertificateDer<'static>]> {
        self.get_ref().peer_certificates()
    }
}

/// A listener that records the HTTP requests that pass over the connections it accepts.
///
/// It goes around a [`TraceListener`](crate::server::TraceListener) or a `TlsListener`. Requests that a
/// [`TraceServerLayer`](crate::server::TraceServerLayer) records are left to that.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use nettrace::{TraceSink, server::TraceListener, wire::WireListener};
///
/// let sink = TraceSink::new();
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let listener = WireListener::new(&sink, TraceListener::new(&sink, listener));
/// // … accept connections, or pass it to `axum::serve` …
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct WireListener<A> {
    sink: TraceSink,
    inner: A,
}

impl<A> WireListener<A> {
    /// Creates a listener that records into `sink`, which is that of the inner listener.
    pub fn new(sink: &TraceSink, inner: A) -> Self {
        WireListener { sink: sink.clone(), inner }
    }

    /// Returns a reference to the inner listener.
    pub fn get_ref(&self) -> &A {
        &self.inner
    }

    /// Returns the inner listener.
    pub fn into_inner(self) -> A {
        self.inner
    }
}

impl<A: Accept<Io: TracedStream>> WireListener<A> {
    /// Accepts a connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection.
    ///
    /// # Errors
    ///
    /// Returns the errors of the inner listener.
    pub async fn accept(&mut self) -> io::Result<(WireIo<A::Io>, A::Addr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Converts the listener into a stream of connections, for tonic's `serve_with_incoming`.
    pub fn incoming(self) -> Incoming<Self> {
        Incoming::new(self)
    }
}

impl<A: Accept<Io: TracedStream>> Accept for WireListener<A> {
    type Io = WireIo<A::Io>;
    type Addr = A::Addr;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Io, A::Addr)>> {
        let (io, addr) = ready!(self.inner.poll_accept(cx))?;
        Poll::Ready(Ok((WireIo::accepted(&self.sink, io), addr)))
    }

    fn local_addr(&self) -> io::Result<A::Addr> {
        self.inner.local_addr()
    }

    fn default_to_tonic(&mut self) {
        self.inner.default_to_tonic();
    }
}

#[cfg(feature = "axum")]
mod axum {
    use super::WireListener;
    use crate::server::{Accept, ConnInfo, TracedStream, axum_accept, axum_info};
    use axum::{
        extract::connect_info::Connected,
        serve::{IncomingStream, Listener},
    };
    use std::io;
    use tokio::io::{AsyncRead, AsyncWrite};

    impl<A> Listener for WireListener<A>
    where
        A: Accept<Io: AsyncRead + AsyncWrite + TracedStream + Unpin + Send + 'static, Addr: Send>
            + Send
            + 'static,
    {
        type Io = <Self as Accept>::Io;
        type Addr = A::Addr;

        async fn accept(&mut self) -> (Self::Io, A::Addr) {
            axum_accept(self).await
        }

        fn local_addr(&self) -> io::Result<A::Addr> {
            Accept::local_addr(self)
        }
    }

    /// Makes `into_make_service_with_connect_info::<ConnInfo>()` work.
    impl<A: Accept> Connected<IncomingStream<'_, WireListener<A>>> for ConnInfo
    where
        WireListener<A>: Listener<Io: TracedStream, Addr: 'static>,
    {
        fn connect_info(stream: IncomingStream<'_, WireListener<A>>) -> Self {
            axum_info(&stream)
        }
    }
}

#[cfg(feature = "tonic-server")]
impl<T: tonic::transport::server::Connected> tonic::transport::server::Connected for WireIo<T> {
    type ConnectInfo = T::ConnectInfo;

    fn connect_info(&self) -> T::ConnectInfo {
        self.get_ref().connect_info()
    }
}
