//! A listener that performs TLS handshakes.

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

/// A listener for connections with TLS. Created by [`TraceListener::tls`](super::super::TraceListener::tls).
///
/// Handshakes run concurrently while `accept` is polled: a slow one delays no other, and a failed one is only recorded.
/// All run on the task that accepts. If one core is too little for them, accept plain connections and perform each
/// handshake in a task of its own with [`TraceTlsAcceptor::accept`](super::TraceTlsAcceptor::accept).
///
/// The timeout of a handshake is 10 seconds unless the acceptor sets another.
///
/// After an error of the listening socket that does not concern a single connection, such as a lack of file
/// descriptors, it accepts no connection for one second. Running handshakes continue.
pub struct TlsListener<A: Accept> {
    listener: A,
    acceptor: TraceTlsAcceptor,
    handshakes: FuturesUnordered<Handshake<A::Io, A::Addr>>,
    max_handshakes: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

/// Without a timeout, clients that connect and send nothing would block all handshakes.
const DEFAULT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

impl<L> TraceListener<L>
where
    TraceListener<L>: Accept,
{
    /// Performs TLS handshakes on the connections.
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

    /// Sets the maximum number of concurrent handshakes; 1,024 by default. Further connections wait to be accepted.
    pub fn max_handshakes(mut self, max_handshakes: usize) -> Self {
        self.max_handshakes = max_handshakes.max(1);
        self
    }

    /// Returns a reference to the inner listener.
    pub fn get_ref(&self) -> &A {
        &self.listener
    }
}

impl<A> TlsListener<A>
where
    A: Accept<Io: AsyncRead + AsyncWrite + TracedStream + Unpin, Addr: Unpin>,
{
    /// Accepts a connection whose handshake succeeded.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection.
    ///
    /// # Errors
    ///
    /// Returns the errors of the listening socket.
    pub async fn accept(&mut self) -> io::Result<(TlsStream<A::Io>, A::Addr)> {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// Converts the listener into a stream of connections, for tonic's `serve_with_incoming`.
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

/// A running handshake and the address of its peer.
struct Handshake<IO, Addr> {
    accept: TraceTlsAccept<IO>,
    addr: Option<Addr>,
}

impl<IO, Addr> Future for Handshake<IO, Addr>
where
    IO: AsyncRead + AsyncWrite + TracedStream + Unpin,
    Addr: Unpin,
{
    /// `None` if the handshake failed, which is recorded.
    type Output = Option<(TlsStream<IO>, Addr)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let stream = ready!(Pin::new(&mut self.accept).poll(cx));
        Poll::Ready(stream.ok().zip(self.addr.take()))
    }
}

#[cfg(all(test, feature = "client", any(feature = "ring", feature = "aws-lc-rs")))]
mod tests {
    use super::*;
    use crate::{TraceSink, connect::TracedIo, sink::ConnRecorder};
    use rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::ServerName};
    use std::sync::Arc;
    use tokio::{io::DuplexStream, time::Instant};
    use tokio_rustls::TlsConnector;

    /// A listener that accepts one connection and then runs out of file descriptors.
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

    /// Returns configurations of a client and of a server for `pipe.test`.
    fn configs() -> (ClientConfig, ServerConfig) {
        let certified = rcgen::generate_simple_self_signed(["pipe.test".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(certified.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.into()], certified.signing_key.into())
            .unwrap();
        (client, server)
    }

    #[tokio::test(start_paused = true)]
    async fn handshakes_continue_while_accept_fails() {
        let (here, there) = tokio::io::duplex(1 << 16);
        let (client, server) = configs();
        let acceptor = TraceTlsAcceptor::new(&TraceSink::disabled(), Arc::new(server));
        let mut listener = TlsListener::new(Exhausted(Some(here)), acceptor);
        let name = ServerName::try_from("pipe.test").unwrap();
        let client = tokio::spawn(TlsConnector::from(Arc::new(client)).connect(name, there));

        let begin = Instant::now();
        assert!(listener.accept().await.is_err(), "the error is returned once");
        listener.accept().await.expect("the running handshake");
        client.await.unwrap().unwrap();
        assert!(begin.elapsed() < ACCEPT_BACKOFF);
        assert!(listener.accept().await.is_err(), "accept is called again after the backoff");
        assert!(begin.elapsed() >= ACCEPT_BACKOFF);
    }
}
