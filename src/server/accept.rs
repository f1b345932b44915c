//! The trait of listeners, and the classification of their errors.

use std::{
    io,
    task::{Context, Poll},
};

/// A source of accepted connections: a [`TraceListener`](super::TraceListener), with or without TLS.
pub trait Accept {
    /// The stream of a connection.
    type Io;
    /// The address of the peer.
    type Addr;

    /// Accepts a connection.
    ///
    /// # Errors
    ///
    /// Returns the errors of the listening socket. A server should go on after an error: the connection may have been
    /// aborted before it was accepted, or there may be no file descriptor left at the moment.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Io, Self::Addr)>>;

    /// Returns the local address of the listener.
    ///
    /// # Errors
    ///
    /// Returns the errors of the listening socket.
    fn local_addr(&self) -> io::Result<Self::Addr>;

    /// Applies the defaults of tonic's server to socket options that were not set. Called before the connections are
    /// passed to tonic as a stream. Does nothing by default.
    fn default_to_tonic(&mut self) {}
}

/// Returns `true` if an error of [`Accept::poll_accept`] concerns a single connection, so that the next one can be
/// accepted immediately.
#[cfg(any(feature = "axum", feature = "tls"))]
pub(super) fn is_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionRefused | ConnectionAborted | ConnectionReset)
}

/// How long to wait after any other error, for example until file descriptors are free again.
#[cfg(any(feature = "axum", feature = "tls"))]
pub(super) const ACCEPT_BACKOFF: std::time::Duration = std::time::Duration::from_secs(1);
