//! Listeners that record what they accept.

use super::Incoming;
#[cfg(feature = "tls")]
use super::tls::{TlsListener, TraceTlsAcceptor};
use crate::{
    connect::TracedIo,
    sink::{Endpoint, ProbeEvent, TraceSink},
};
use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    os::fd::AsFd,
    task::{Context, Poll, ready},
};
use tokio::net::{TcpListener, TcpStream};

/// What accepts connections: a [`TraceListener`], or one that speaks TLS on them.
pub trait Accept {
    /// The stream of a connection.
    type Io;
    /// Who it is with.
    type Addr;

    /// Accepts a connection.
    ///
    /// # Errors
    ///
    /// Those of the listening socket. They are no reason to stop: a connection may have been aborted before it was
    /// accepted, or there may be no descriptor left for it at the moment.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Io, Self::Addr)>>;

    /// The address that is listened on.
    ///
    /// # Errors
    ///
    /// Those of the listening socket.
    fn local_addr(&self) -> io::Result<Self::Addr>;
}

/// Whether an error of [`Accept::poll_accept`] says nothing of the connections to come.
#[cfg(any(feature = "axum", feature = "tls"))]
pub(super) fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionRefused | ConnectionAborted | ConnectionReset)
}

/// After any other error: until descriptors are free again, say.
#[cfg(any(feature = "axum", feature = "tls"))]
pub(super) const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// A listener whose connections are recorded: tokio's [`TcpListener`], or its `UnixListener`.
///
/// A connection's record begins when it is accepted and ends when its stream is dropped. Probes see accepted
/// sockets as they see those of connections that were made.
#[derive(Debug)]
pub struct TraceListener<L> {
    sink: TraceSink,
    inner: L,
}

impl<L> TraceListener<L> {
    /// Records into `sink`.
    pub fn new(sink: &TraceSink, listener: L) -> Self {
        TraceListener { sink: sink.clone(), inner: listener }
    }

    /// The listener itself.
    pub fn get_ref(&self) -> &L {
        &self.inner
    }

    /// Gives the listener back.
    pub fn into_inner(self) -> L {
        self.inner
    }
}

impl<L> TraceListener<L>
where
    TraceListener<L>: Accept,
{
    /// The connections as a stream, as tonic's `serve_with_incoming` takes them.
    pub fn incoming(self) -> Incoming<Self> {
        Incoming::new(self)
    }

    /// Speaks TLS on the connections.
    #[cfg(feature = "tls")]
    pub fn tls(self, acceptor: TraceTlsAcceptor) -> TlsListener<Self> {
        TlsListener::new(self, acceptor)
    }
}

impl TraceListener<TcpListener> {
    /// Accepts a connection; may be dropped before it has, and then loses none.
    ///
    /// # Errors
    ///
    /// As tokio's listener.
    pub async fn accept(&self) -> io::Result<(TracedIo<TcpStream>, SocketAddr)> {
        poll_fn(|cx| self.poll_tcp(cx)).await
    }

    fn poll_tcp(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TracedIo<TcpStream>, SocketAddr)>> {
        let (stream, peer) = ready!(self.inner.poll_accept(cx))?;
        let conn = self.sink.accepted(|| Endpoint {
            local: stream.local_addr().ok(),
            remote: Some(peer),
            ..Endpoint::default()
        });
        conn.show(ProbeEvent::Connected, stream.as_fd());
        Poll::Ready(Ok((TracedIo::new(stream, conn).with_socket(TcpStream::as_fd), peer)))
    }

    /// The address that is listened on.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

impl Accept for TraceListener<TcpListener> {
    type Io = TracedIo<TcpStream>;
    type Addr = SocketAddr;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Io, SocketAddr)>> {
        self.poll_tcp(cx)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

#[cfg(unix)]
mod unix {
    use super::{Accept, TraceListener};
    use crate::{connect::TracedIo, sink::Endpoint};
    use std::{
        future::poll_fn,
        io,
        task::{Context, Poll, ready},
    };
    use tokio::net::{UnixListener, UnixStream, unix::SocketAddr};

    impl TraceListener<UnixListener> {
        /// Accepts a connection; may be dropped before it has, and then loses none.
        ///
        /// # Errors
        ///
        /// As tokio's listener.
        pub async fn accept(&self) -> io::Result<(TracedIo<UnixStream>, SocketAddr)> {
            poll_fn(|cx| self.poll_unix(cx)).await
        }

        fn poll_unix(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TracedIo<UnixStream>, SocketAddr)>> {
            let (stream, peer) = ready!(self.inner.poll_accept(cx))?;
            let conn = self.sink.accepted(|| Endpoint { path: path(&stream), ..Endpoint::default() });
            Poll::Ready(Ok((TracedIo::new(stream, conn), peer)))
        }

        /// The address that is listened on.
        ///
        /// # Errors
        ///
        /// Those of the socket.
        pub fn local_addr(&self) -> io::Result<SocketAddr> {
            self.inner.local_addr()
        }
    }

    impl Accept for TraceListener<UnixListener> {
        type Io = TracedIo<UnixStream>;
        type Addr = SocketAddr;

        fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Io, SocketAddr)>> {
            self.poll_unix(cx)
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            self.inner.local_addr()
        }
    }

    /// The file that is listened on: who connects has none as a rule.
    fn path(stream: &UnixStream) -> Option<Box<str>> {
        Some(stream.local_addr().ok()?.as_pathname()?.to_string_lossy().into())
    }
}
