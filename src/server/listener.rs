//! Listeners that record the connections that they accept.

use super::{Accept, Incoming};
use crate::{
    connect::TracedIo,
    sink::{Endpoint, ProbeEvent, TraceSink},
};
use socket2::{SockRef, TcpKeepalive};
use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    os::fd::AsFd,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::net::{TcpListener, TcpStream};

/// A listener that records its connections, around tokio's [`TcpListener`] or `UnixListener`.
///
/// The record of a connection begins when it is accepted and ends when its stream is dropped. Probes are called for
/// accepted sockets as for others.
#[derive(Debug)]
pub struct TraceListener<L> {
    sink: TraceSink,
    inner: L,
    options: SocketOptions,
}

/// The socket options of accepted TCP connections.
#[derive(Debug, Default)]
struct SocketOptions {
    nodelay: NoDelay,
    keepalive_time: Option<Duration>,
    keepalive_interval: Option<Duration>,
    keepalive_retries: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
enum NoDelay {
    /// Not set: left alone, or set to tonic's default.
    #[default]
    Unset,
    /// Inherited from the listening socket.
    Inherited,
    Set(bool),
}

impl SocketOptions {
    /// Sets the options. Errors are only logged: a socket that was reset meanwhile has no options and reports the reset
    /// when it is read.
    fn apply(&self, stream: &TcpStream) {
        if let NoDelay::Set(nodelay) = self.nodelay
            && let Err(error) = stream.set_nodelay(nodelay)
        {
            tracing::debug!(target: "nettrace", "cannot set TCP_NODELAY on an accepted connection: {error}");
        }
        if let Some(probes) = self.keepalive()
            && let Err(error) = SockRef::from(stream).set_tcp_keepalive(&probes)
        {
            tracing::debug!(target: "nettrace", "cannot set keep-alive on an accepted connection: {error}");
        }
    }

    fn keepalive(&self) -> Option<TcpKeepalive> {
        let SocketOptions {
            keepalive_time: time,
            keepalive_interval: interval,
            keepalive_retries: retries,
            ..
        } = *self;
        let is_chosen = time.is_some() || interval.is_some() || retries.is_some();
        let probes = time.into_iter().fold(TcpKeepalive::new(), TcpKeepalive::with_time);
        let probes = interval.into_iter().fold(probes, TcpKeepalive::with_interval);
        let probes = retries.into_iter().fold(probes, TcpKeepalive::with_retries);
        is_chosen.then_some(probes)
    }
}

impl<L> TraceListener<L> {
    /// Creates a listener that records into `sink`.
    pub fn new(sink: &TraceSink, listener: L) -> Self {
        TraceListener { sink: sink.clone(), inner: listener, options: SocketOptions::default() }
    }

    /// Returns a reference to the inner listener.
    pub fn get_ref(&self) -> &L {
        &self.inner
    }

    /// Returns the inner listener.
    pub fn into_inner(self) -> L {
        self.inner
    }
}

impl<L> TraceListener<L>
where
    TraceListener<L>: Accept,
{
    /// Converts the listener into a stream of connections, for tonic's `serve_with_incoming`.
    ///
    /// That method sets no socket options. As with tonic's `serve`, `TCP_NODELAY` is on unless
    /// [`with_nodelay`](TraceListener::with_nodelay) was called.
    pub fn incoming(self) -> Incoming<Self> {
        Incoming::new(self)
    }
}

impl TraceListener<TcpListener> {
    /// Sets `TCP_NODELAY` on accepted connections. `None` inherits the option from the listening socket.
    ///
    /// By default it is on for the connections of [`incoming`](Self::incoming), and left alone for others.
    pub fn with_nodelay(mut self, nodelay: impl Into<Option<bool>>) -> Self {
        self.options.nodelay = nodelay.into().map_or(NoDelay::Inherited, NoDelay::Set);
        self
    }

    /// Sets the idle time before keep-alive probes are sent (`TCP_KEEPIDLE`) and enables them. Not set by default.
    pub fn with_keepalive(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.options.keepalive_time = time.into();
        self
    }

    /// Sets the interval of keep-alive probes (`TCP_KEEPINTVL`) and enables them. Not set by default.
    pub fn with_keepalive_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.options.keepalive_interval = interval.into();
        self
    }

    /// Sets the number of unanswered keep-alive probes after which the connection is closed (`TCP_KEEPCNT`) and enables
    /// them. Not set by default.
    pub fn with_keepalive_retries(mut self, retries: impl Into<Option<u32>>) -> Self {
        self.options.keepalive_retries = retries.into();
        self
    }

    /// Accepts a connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection.
    ///
    /// # Errors
    ///
    /// Returns the errors of tokio's listener.
    pub async fn accept(&self) -> io::Result<(TracedIo<TcpStream>, SocketAddr)> {
        poll_fn(|cx| self.poll_tcp(cx)).await
    }

    fn poll_tcp(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TracedIo<TcpStream>, SocketAddr)>> {
        let (stream, peer) = ready!(self.inner.poll_accept(cx))?;
        self.options.apply(&stream);
        let conn = self.sink.accepted(|| Endpoint {
            local: stream.local_addr().ok(),
            remote: Some(peer),
            ..Endpoint::default()
        });
        conn.show(ProbeEvent::Connected, stream.as_fd());
        Poll::Ready(Ok((TracedIo::tcp(stream, conn), peer)))
    }

    /// Returns the local address of the listener.
    ///
    /// # Errors
    ///
    /// Returns the errors of the listening socket.
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

    fn default_to_tonic(&mut self) {
        if let NoDelay::Unset = self.options.nodelay {
            self.options.nodelay = NoDelay::Set(true);
        }
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
        /// Accepts a connection.
        ///
        /// # Cancel safety
        ///
        /// Dropping the future loses no connection.
        ///
        /// # Errors
        ///
        /// Returns the errors of tokio's listener.
        pub async fn accept(&self) -> io::Result<(TracedIo<UnixStream>, SocketAddr)> {
            poll_fn(|cx| self.poll_unix(cx)).await
        }

        fn poll_unix(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TracedIo<UnixStream>, SocketAddr)>> {
            let (stream, peer) = ready!(self.inner.poll_accept(cx))?;
            let conn = self.sink.accepted(|| Endpoint { path: path(&stream), ..Endpoint::default() });
            Poll::Ready(Ok((TracedIo::new(stream, conn), peer)))
        }

        /// Returns the local address of the listener.
        ///
        /// # Errors
        ///
        /// Returns the errors of the listening socket.
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

    /// Returns the path of the listening socket. The client's has none as a rule.
    fn path(stream: &UnixStream) -> Option<Box<str>> {
        Some(stream.local_addr().ok()?.as_pathname()?.to_string_lossy().into())
    }
}
