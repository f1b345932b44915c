//! The future of a server's handshake, with its timeout and its record.
//!
//! A [`HandshakeTap`] around the stream below observes the unencrypted messages. While the handshake is polled, a
//! thread-local points to its observation, so that the verifier, which all handshakes share, knows which one the
//! certificates belong to.

use super::TlsStream;
use crate::{
    error::{
        TlsError,
        classify::io_failure,
        rustls::{find_rustls_error, server_failure},
    },
    record::{Failure, Text},
    server::TracedStream,
    sink::{ConnRef, TraceSink},
    tls::{ChainCache, HandshakeRecorder, HandshakeTap, scope},
};
use rustls::{ServerConfig, server::Acceptor};
use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Sleep,
};
use tokio_rustls::{LazyConfigAcceptor, server::FallibleAccept, server::TlsStream as RustlsStream};

/// The settings that all handshakes of an acceptor share.
#[derive(Clone)]
pub(super) struct AcceptConfig {
    pub(super) sink: TraceSink,
    pub(super) tls: Arc<ServerConfig>,
    pub(super) handshake_timeout: Option<Duration>,
    /// A cache of described certificate chains, for clients that present one.
    pub(super) chains: Arc<ChainCache>,
}

/// The future of [`TraceTlsAcceptor::accept`](super::TraceTlsAcceptor::accept).
#[must_use = "nothing is accepted before it is polled"]
pub struct TraceTlsAccept<IO> {
    /// `None` if nothing is recorded, and after the handshake.
    record: Option<HandshakeRecorder>,
    state: State<IO>,
    timeout: Option<Pin<Box<Sleep>>>,
    peer: Peer,
    config: Arc<AcceptConfig>,
}

enum State<IO> {
    /// Waiting for the ClientHello.
    Hello(LazyConfigAcceptor<HandshakeTap<IO>>),
    /// The rest of the handshake.
    Handshake(FallibleAccept<HandshakeTap<IO>>),
    Done,
}

/// The error, and the stream if the failed handshake returned it. A [`LazyConfigAcceptor`] keeps it instead.
type Failed<IO> = (io::Error, Option<HandshakeTap<IO>>);

/// The peer in the text of an error.
struct Peer(Option<std::net::SocketAddr>);

impl<IO> TraceTlsAccept<IO>
where
    IO: AsyncRead + AsyncWrite + TracedStream + Unpin,
{
    pub(super) fn begin(io: IO, config: Arc<AcceptConfig>) -> Self {
        let peer = Peer(io.conn_ref().and_then(ConnRef::peer_addr));
        let record = HandshakeRecorder::begin(config.sink.accept_tls(io.conn_ref()), &config.chains);
        let tap = HandshakeTap::new(io, record.as_ref().map(|record| record.observation.clone()));
        TraceTlsAccept {
            record,
            state: State::Hello(LazyConfigAcceptor::new(Acceptor::default(), tap)),
            timeout: config.handshake_timeout.map(|timeout| Box::pin(tokio::time::sleep(timeout))),
            peer,
            config,
        }
    }

    fn poll_handshake(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RustlsStream<HandshakeTap<IO>>, Failed<IO>>> {
        loop {
            match &mut self.state {
                State::Hello(hello) => {
                    let start = ready!(Pin::new(hello).poll(cx)).map_err(|error| (error, None))?;
                    if let Some(HandshakeRecorder { recorder, .. }) = &self.record {
                        recorder.set_server_name(
                            start.client_hello().server_name().map(Text::from).unwrap_or_default(),
                        );
                    }
                    let handshake = start.into_stream(self.config.tls.clone()).into_fallible();
                    self.state = State::Handshake(handshake);
                }
                State::Handshake(handshake) => {
                    return Pin::new(handshake).poll(cx).map_err(|(error, io)| (error, Some(io)));
                }
                State::Done => panic!("polled after it had resolved"),
            }
        }
    }

    fn established(&mut self, mut stream: RustlsStream<HandshakeTap<IO>>) -> TlsStream<IO> {
        stream.get_mut().0.stop_observing();
        if let Some(conn) = stream.get_ref().0.get_ref().conn_ref() {
            conn.set_secure();
        }
        let recorder = self.record.take().map(|record| record.established(stream.get_ref().1));
        TlsStream::new(stream, recorder)
    }
}

impl<IO> Future for TraceTlsAccept<IO>
where
    IO: AsyncRead + AsyncWrite + TracedStream + Unpin,
{
    type Output = Result<TlsStream<IO>, TlsError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let observation = this.record.as_ref().map(|record| record.observation.clone());
        let result = match scope(observation.as_ref(), || this.poll_handshake(cx)) {
            Poll::Ready(Ok(stream)) => Ok(this.established(stream)),
            // The handshake's record must end before that of its connection, which ends when `_io` is dropped.
            Poll::Ready(Err((error, _io))) => Err(this.failed(error)),
            Poll::Pending => match &mut this.timeout {
                Some(timeout) => Err(ready!(timeout.as_mut().poll(cx).map(|()| this.timed_out()))),
                None => return Poll::Pending,
            },
        };
        this.state = State::Done;
        Poll::Ready(result)
    }
}

impl<IO> TraceTlsAccept<IO> {
    #[cold]
    fn failed(&mut self, error: io::Error) -> TlsError {
        let rustls = find_rustls_error(&error);
        let failure = match rustls.map_or_else(|| io_failure(&error), server_failure) {
            // An alert without a code of its own. In a handshake each one means that the handshake failed.
            Failure::TlsAlert => Failure::SslFailedHandshake,
            failure => failure,
        };
        let record = self.record.take();
        let is_http =
            |record: &HandshakeRecorder| record.observation.inspect(|inspector| inspector.is_http_request());
        let hint = if record.as_ref().is_some_and(is_http) { " (the client spoke plain HTTP)" } else { "" };
        let error = TlsError::handshake(&self.peer, failure, error, hint);
        if let Some(record) = record {
            record.failed_with(&error);
        }
        error
    }

    #[cold]
    fn timed_out(&mut self) -> TlsError {
        let error = TlsError::timeout(&self.peer, self.config.handshake_timeout.unwrap_or_default());
        if let Some(record) = self.record.take() {
            record.timed_out(&error);
        }
        error
    }
}

impl<IO> Drop for TraceTlsAccept<IO> {
    fn drop(&mut self) {
        self.record.take().into_iter().for_each(HandshakeRecorder::given_up);
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(addr) => addr.fmt(f),
            None => f.write_str("a client"),
        }
    }
}

impl<IO> fmt::Debug for TraceTlsAccept<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Hello(_) => "awaiting the ClientHello",
            State::Handshake(_) => "handshaking",
            State::Done => "done",
        };
        f.debug_struct("TraceTlsAccept").field("state", &state).finish_non_exhaustive()
    }
}
