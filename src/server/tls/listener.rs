//! A listener that speaks TLS.

use super::{TlsStream, TraceTlsAccept, TraceTlsAcceptor};
use crate::server::{
    Accept, Incoming, TraceListener, TracedStream,
    accept::{ACCEPT_BACKOFF, is_connection_error},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Sleep, sleep},
};

/// Accepts connections with TLS. Made by [`TraceListener::tls`](super::super::TraceListener::tls).
///
/// Handshakes run beside each other, as long as somebody accepts: a slow one holds up no other, and one that fails
/// is in the trace and nowhere else. All run on the task that accepts; where one core is too little for them, accept
/// plain connections and give each a task for its handshake, with
/// [`TraceTlsAcceptor::accept`](super::TraceTlsAcceptor::accept).
///
/// A handshake may take 10 seconds unless the acceptor says otherwise.
///
/// After an error of the listening socket that is not of one connection alone, as when there is no descriptor left, it
/// goes on with the handshakes for a second before it accepts more.
pub struct TlsListener<A: Accept> {
    listener: A,
    acceptor: TraceTlsAcceptor,
    handshakes: FuturesUnordered<Handshake<A::Io, A::Addr>>,
    max_handshakes: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

/// Else who connects and says nothing would take up room for ever.
const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

impl<L> TraceListener<L>
where
    TraceListener<L>: Accept,
{
    /// Speaks TLS on the connections.
    pub fn tls(self, acceptor: TraceTlsAcceptor) -> TlsListener<Self> {
        TlsListener::new(self, acceptor)
    }
}

impl<A: Accept> TlsListener<A> {
    pub(in crate::server) fn new(listener: A, acceptor: TraceTlsAcceptor) -> Self {
        let limit = acceptor.0.handshake_timeout.unwrap_or(DEFAULT_HANDSHAKE_TIMEOUT);
        let acceptor = acceptor.handshake_timeout(limit);
        TlsListener {
            listener,
            acceptor,
            handshakes: FuturesUnordered::new(),
            max_handshakes: 1_024,
            pause: None,
        }
    }

    /// How many handshakes may run at a time; 1,024 by default. What comes meanwhile waits to be accepted.
    pub fn max_handshakes(mut self, max_handshakes: usize) -> Self {
        self.max_handshakes = max_handshakes.max(1);
        self
    }

    /// The listener itself.
    pub fn get_ref(&self) -> &A {
        &self.listener
    }
}

impl<A> TlsListener<A>
where
    A: Accept<Io: AsyncRead + AsyncWrite + TracedStream + Unpin, Addr: Unpin>,
{
    /// Accepts a connection whose handshake has succeeded; may be dropped before it has, and then loses none.
    ///
    /// # Errors
    ///
    /// Those of the listening socket.
    pub async fn accept(&mut self) -> io::Result<(TlsStream<A::Io>, A::Addr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The connections as a stream, as tonic's `serve_with_incoming` takes them.
    pub fn incoming(self) -> Incoming<Self> {
        Incoming::new(self)
    }
}

impl<A> Accept for TlsListener<A>
where
    A: Accept<Io: AsyncRead + AsyncWrite + TracedStream + Unpin, Addr: Unpin>,
{
    type Io = TlsStream<A::Io>;
    type Addr = A::Addr;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(TlsStream<A::Io>, A::Addr)>> {
        loop {
            while let Poll::Ready(Some(ended)) = self.handshakes.poll_next_unpin(cx) {
                if let Some(accepted) = ended {
                    return Poll::Ready(Ok(accepted));
                }
            }
            if self.handshakes.len() >= self.max_handshakes {
                return Poll::Pending;
            }
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(cx)) {
                Ok((io, addr)) => {
                    self.handshakes.push(Handshake { accept: self.acceptor.accept(io), addr: Some(addr) });
                }
                Err(error) => {
                    self.pause = (!is_connection_error(&error)).then(|| Box::pin(sleep(ACCEPT_BACKOFF)));
                    return Poll::Ready(Err(error));
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<A::Addr> {
        self.listener.local_addr()
    }

    fn default_to_tonic(&mut self) {
        self.listener.default_to_tonic();
    }
}

impl<A: Accept + fmt::Debug> fmt::Debug for TlsListener<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsListener")
            .field("listener", &self.listener)
            .field("acceptor", &self.acceptor)
            .field("handshakes", &self.handshakes.len())
            .finish_non_exhaustive()
    }
}

/// A handshake, and with whom.
struct Handshake<IO, Addr> {
    accept: TraceTlsAccept<IO>,
    addr: Option<Addr>,
}

impl<IO, Addr> Future for Handshake<IO, Addr>
where
    IO: AsyncRead + AsyncWrite + TracedStream + Unpin,
    Addr: Unpin,
{
    /// `None` when it failed, which is in the trace.
    type Output = Option<(TlsStream<IO>, Addr)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let stream = ready!(Pin::new(&mut self.accept).poll(cx));
        Poll::Ready(stream.ok().zip(self.addr.take()))
    }
}

#[cfg(all(test, feature = "client", any(feature = "ring", feature = "aws-lc-rs")))]
mod tests {
    use super::*;
    use crate::{TraceSink, connect::TracedIo, off::configs, sink::ConnRecorder};
    use rustls::pki_types::ServerName;
    use std::sync::Arc;
    use tokio::{io::DuplexStream, time::Instant};
    use tokio_rustls::TlsConnector;

    /// Accepts one connection, and has no descriptor for another.
    struct Exhausted(Option<DuplexStream>);

    impl Accept for Exhausted {
        type Io = TracedIo<DuplexStream>;
        type Addr = ();

        fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<io::Result<(Self::Io, ())>> {
            let stream = self.0.take().ok_or_else(|| io::Error::other("no descriptor left"));
            Poll::Ready(stream.map(|stream| (TracedIo::new(stream, ConnRecorder::off()), ())))
        }

        fn local_addr(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn handshakes_go_on_while_nothing_can_be_accepted() {
        let (here, there) = tokio::io::duplex(1 << 16);
        let (client, server) = configs();
        let acceptor = TraceTlsAcceptor::new(&TraceSink::disabled(), Arc::new(server));
        let mut listener = TlsListener::new(Exhausted(Some(here)), acceptor);
        let name = ServerName::try_from("pipe.test").unwrap();
        let client = tokio::spawn(TlsConnector::from(Arc::new(client)).connect(name, there));

        let begin = Instant::now();
        assert!(listener.accept().await.is_err(), "said once");
        listener.accept().await.expect("the handshake that was under way");
        client.await.unwrap().unwrap();
        assert!(begin.elapsed() < ACCEPT_BACKOFF);
        assert!(listener.accept().await.is_err(), "asked again after a while");
        assert!(begin.elapsed() >= ACCEPT_BACKOFF);
    }
}
