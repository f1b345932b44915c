//! The stream of an accepted connection with TLS.

use crate::{
    ConnRef,
    delegate_io::{delegate_flush_and_shutdown, intercept_write},
    error::{classify::io_failure_detail, rustls::find_rustls_error},
    server::TracedStream,
    sink::TlsRecorder,
    tls::HandshakeTap,
};
use rustls::{ServerConnection, pki_types::CertificateDer};
use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream as RustlsStream;

/// An accepted connection with TLS. It is recorded as a tunnel until it is dropped.
pub struct TlsStream<IO> {
    /// The first field, so that the tunnel ends before the connection that carries it.
    recorder: Option<TlsRecorder>,
    io: RustlsStream<HandshakeTap<IO>>,
}

impl<IO> TlsStream<IO> {
    pub(super) fn new(io: RustlsStream<HandshakeTap<IO>>, recorder: Option<TlsRecorder>) -> Self {
        TlsStream { recorder, io }
    }

    /// Returns references to the stream below TLS and to the session, which has the requested server name and the
    /// client's certificates.
    pub fn get_ref(&self) -> (&IO, &ServerConnection) {
        let (tap, session) = self.io.get_ref();
        (tap.get_ref(), session)
    }

    /// Returns the protocol negotiated with ALPN (RFC 7301), such as `h2`.
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        self.get_ref().1.alpn_protocol()
    }

    #[cold]
    fn broken(&mut self, error: &io::Error) {
        let Some(recorder) = &mut self.recorder else { return };
        match find_rustls_error(error) {
            // The peer sent no `close_notify`. The protocol above decides what that means.
            None if error.kind() == io::ErrorKind::UnexpectedEof => recorder.peer_closed(),
            _ => recorder.broken(io_failure_detail(error)),
        }
    }
}

impl<IO: Unpin> TlsStream<IO> {
    /// Writes, and records an error.
    fn checked_write(
        mut self: Pin<&mut Self>,
        write: impl FnOnce(Pin<&mut RustlsStream<HandshakeTap<IO>>>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let result = write(Pin::new(&mut self.io));
        if let Poll::Ready(Err(error)) = &result {
            self.broken(error);
        }
        result
    }
}

impl<IO: TracedStream> TlsStream<IO> {
    /// Returns the identity of the connection, or `None` if it is not recorded.
    pub fn conn_ref(&self) -> Option<&ConnRef> {
        self.get_ref().0.conn_ref()
    }

    /// Records that the client will send nothing more.
    #[cold]
    fn peer_closed(&mut self) {
        if let Some(recorder) = &mut self.recorder {
            recorder.peer_closed();
        }
        if let Some(conn) = self.conn_ref() {
            conn.set_peer_closed();
        }
    }
}

impl<IO> Drop for TlsStream<IO> {
    fn drop(&mut self) {
        let Some(recorder) = &mut self.recorder else { return };
        // All received packets were processed already. This only queries the state.
        let state = self.io.get_mut().1.process_new_packets();
        if state.is_ok_and(|state| state.peer_has_closed()) {
            recorder.peer_closed();
        }
    }
}

impl<IO: TracedStream> TracedStream for TlsStream<IO> {
    fn conn_ref(&self) -> Option<&ConnRef> {
        TlsStream::conn_ref(self)
    }

    fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.get_ref().1.peer_certificates()
    }
}

impl<IO: AsyncRead + AsyncWrite + TracedStream + Unpin> AsyncRead for TlsStream<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (filled, had_room) = (buf.filled().len(), buf.remaining() > 0);
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        match &result {
            Poll::Ready(Err(error)) => self.broken(error),
            Poll::Ready(Ok(())) if had_room && buf.filled().len() == filled => self.peer_closed(),
            _ => {}
        }
        result
    }
}

impl<IO: AsyncRead + AsyncWrite + TracedStream + Unpin> AsyncWrite for TlsStream<IO> {
    intercept_write!(Self::checked_write);
    delegate_flush_and_shutdown!(|this| Pin::new(&mut this.get_mut().io), |this| this.io);
}

impl<IO: fmt::Debug> fmt::Debug for TlsStream<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsStream").field(self.get_ref().0).finish()
    }
}
