//! What accepts connections, and what its errors mean.

use std::{
    io,
    task::{Context, Poll},
};

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

    /// Called before the connections are handed out as a stream for tonic: what was not chosen for their sockets
    /// becomes what tonic's server sets by default. Does nothing unless it is implemented.
    fn default_to_tonic(&mut self) {}
}

/// Whether an error of [`Accept::poll_accept`] says nothing of the connections to come.
#[cfg(any(feature = "axum", feature = "tls"))]
pub(super) fn is_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionRefused | ConnectionAborted | ConnectionReset)
}

/// After any other error: until descriptors are free again, say.
#[cfg(any(feature = "axum", feature = "tls"))]
pub(super) const ACCEPT_BACKOFF: std::time::Duration = std::time::Duration::from_secs(1);
