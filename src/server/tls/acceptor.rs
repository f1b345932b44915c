//! The acceptor that records TLS handshakes.

use super::accept::{AcceptConfig, TraceTlsAccept};
use crate::{server::TracedStream, sink::TraceSink, tls::ChainCache};
use rustls::ServerConfig;
use std::{fmt, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

/// An acceptor like tokio-rustls' `TlsAcceptor` that records each handshake and its tunnel.
///
/// The records of failed handshakes have the same fields as those of successful ones, as far as they are known: the
/// requested server name, version, cipher suite, key exchange group and alert. The certificate of a rejected client is
/// recorded if the verifier of the configuration is a [`TraceClientVerifier`](super::TraceClientVerifier).
///
/// ```no_run
/// use nettrace::{TraceSink, server::{TraceListener, TraceTlsAcceptor}};
///
/// # async fn serve(config: std::sync::Arc<rustls::ServerConfig>) -> std::io::Result<()> {
/// let sink = TraceSink::new();
/// let listener = TraceListener::new(&sink, tokio::net::TcpListener::bind("[::]:443").await?);
/// let acceptor = TraceTlsAcceptor::new(&sink, config);
/// loop {
///     let (io, _) = listener.accept().await?;
///     let handshake = acceptor.accept(io);
///     tokio::spawn(async move {
///         let Ok(io) = handshake.await else { return }; // it is in the trace
///         // … serve it …
/// #       drop(io);
///     });
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct TraceTlsAcceptor(pub(super) Arc<AcceptConfig>);

impl TraceTlsAcceptor {
    /// Creates an acceptor that records into `sink`.
    pub fn new(sink: &TraceSink, config: Arc<ServerConfig>) -> Self {
        TraceTlsAcceptor(Arc::new(AcceptConfig {
            sink: sink.clone(),
            tls: config,
            handshake_timeout: None,
            chains: Arc::new(ChainCache::new()),
        }))
    }

    /// Sets the timeout of a handshake, including the wait for its first byte. Unlimited by default, except in a
    /// [`TlsListener`](super::TlsListener).
    ///
    /// Requires a tokio runtime with a timer.
    pub fn handshake_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        Arc::make_mut(&mut self.0).handshake_timeout = limit.into();
        self
    }

    /// Performs a handshake. If the future is dropped, the handshake is recorded as cancelled.
    ///
    /// # Errors
    ///
    /// Returns a [`TlsError`](crate::tls::TlsError) whose source is the error of tokio-rustls.
    pub fn accept<IO>(&self, io: IO) -> TraceTlsAccept<IO>
    where
        IO: AsyncRead + AsyncWrite + TracedStream + Unpin,
    {
        TraceTlsAccept::begin(io, self.0.clone())
    }
}

impl fmt::Debug for TraceTlsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceTlsAcceptor")
            .field("handshake_timeout", &self.0.handshake_timeout)
            .finish_non_exhaustive()
    }
}
