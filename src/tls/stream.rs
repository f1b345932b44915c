//! The streams of a TLS connector: plain ones, and TLS ones whose tunnel is recorded until they are dropped.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio_rustls::client::TlsStream as RustlsStream;

use super::handshake_tap::HandshakeTap;
use crate::{
    delegate_io::{delegate_flush_and_shutdown, delegate_read, delegate_write, intercept_write},
    error::{
        classify::io_failure_detail,
        rustls::{alert_name, find_rustls_error},
    },
    sink::{ConnRef, TlsRecorder, describe_conn},
};

/// A TLS stream. It is recorded as a tunnel until it is dropped.
pub struct TlsStream<C> {
    /// Dropped first, so that the tunnel ends before the connection that carries it.
    recorder: Option<TlsRecorder>,
    /// Boxed, because the state of a session takes several kilobytes and streams are moved often.
    io: SessionIo<C>,
    /// The identity of the connection, if the stream below has none.
    conn: Option<ConnRef>,
    /// Nothing has been read yet. In TLS 1.3 the handshake ends for the client before the server has verified the
    /// client's certificate, so a rejection arrives with the first read.
    awaits_client_cert_verdict: bool,
}

type SessionIo<C> = TokioIo<Box<RustlsStream<HandshakeTap<TokioIo<C>>>>>;

impl<C> TlsStream<C> {
    pub(super) fn new(
        stream: RustlsStream<HandshakeTap<TokioIo<C>>>,
        recorder: Option<TlsRecorder>,
        conn: Option<ConnRef>,
    ) -> Self {
        let awaits_client_cert_verdict = recorder.is_some();
        TlsStream { recorder, io: TokioIo::new(Box::new(stream)), conn, awaits_client_cert_verdict }
    }

    /// Returns a reference to the stream below TLS.
    pub fn get_ref(&self) -> &C {
        self.io.inner().get_ref().0.get_ref().inner()
    }

    /// Returns the protocol that was negotiated with ALPN (RFC 7301), such as `h2`.
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        self.io.inner().get_ref().1.alpn_protocol()
    }

    /// Writes, and records an error.
    fn checked_write(
        mut self: Pin<&mut Self>,
        write: impl FnOnce(Pin<&mut SessionIo<C>>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let result = write(Pin::new(&mut self.io));
        if let Poll::Ready(Err(error)) = &result {
            self.record_error(error);
        }
        result
    }

    #[cold]
    fn record_error(&mut self, error: &io::Error) {
        let Some(recorder) = &mut self.recorder else { return };
        match find_rustls_error(error) {
            Some(rustls::Error::AlertReceived(alert)) if self.awaits_client_cert_verdict => {
                let alert = format!("received {}", alert_name(*alert));
                recorder.rejected(io_failure_detail(error), alert);
            }
            // No `close_notify`: whether data is missing is for the protocol above to know.
            None if error.kind() == io::ErrorKind::UnexpectedEof => recorder.peer_closed(),
            _ => recorder.broken(io_failure_detail(error)),
        }
    }
}

impl<C> Drop for TlsStream<C> {
    fn drop(&mut self) {
        let Some(recorder) = &mut self.recorder else { return };
        // Everything that came has been processed; this only returns the resulting state.
        let state = self.io.inner_mut().get_mut().1.process_new_packets();
        if state.is_ok_and(|state| state.peer_has_closed()) {
            recorder.peer_closed();
        }
    }
}

impl<C: Read + Write + Unpin> Read for TlsStream<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        #[cfg(all(feature = "connect", feature = "_record_requests"))]
        let awaits_first_byte = self.recorder.as_ref().is_some_and(TlsRecorder::awaits_first_byte);
        let result = Pin::new(&mut self.io).poll_read(cx, buf);
        match &result {
            Poll::Ready(ended) => {
                if let Err(error) = ended {
                    self.record_error(error);
                }
                self.awaits_client_cert_verdict = false;
            }
            // The connection may have been read, but nothing came out of it.
            Poll::Pending =>
            {
                #[cfg(all(feature = "connect", feature = "_record_requests"))]
                if awaits_first_byte && let Some(recorder) = &self.recorder {
                    recorder.await_first_byte();
                }
            }
        }
        result
    }
}

impl<C: Read + Write + Unpin> Write for TlsStream<C> {
    intercept_write!(Self::checked_write);
    delegate_flush_and_shutdown!(|this| Pin::new(&mut this.get_mut().io), |this| this.io);
}

impl<C: Connection> Connection for TlsStream<C> {
    fn connected(&self) -> Connected {
        let below = || self.get_ref().connected();
        let connected = self.conn.as_ref().map_or_else(below, |conn| describe_conn(conn, below));
        if self.alpn_protocol() == Some(b"h2") { connected.negotiated_h2() } else { connected }
    }
}

impl<C: fmt::Debug> fmt::Debug for TlsStream<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsStream").field(self.get_ref()).finish()
    }
}

/// The stream that [`TraceTls`](super::TraceTls) connects: that of the inner connector, plain or inside TLS.
#[derive(Debug)]
pub enum MaybeTlsStream<C> {
    /// Unprotected: the URI did not ask for TLS.
    Plain(C),
    /// Protected with TLS.
    Tls(TlsStream<C>),
}

impl<C> MaybeTlsStream<C> {
    /// Returns a reference to the stream of the inner connector.
    pub fn get_ref(&self) -> &C {
        match self {
            MaybeTlsStream::Plain(stream) => stream,
            MaybeTlsStream::Tls(stream) => stream.get_ref(),
        }
    }
}

impl<C: Read + Write + Unpin> Read for MaybeTlsStream<C> {
    delegate_read!(ReadBufCursor<'_>, enum { MaybeTlsStream::Plain, MaybeTlsStream::Tls });
}

impl<C: Read + Write + Unpin> Write for MaybeTlsStream<C> {
    delegate_write!(enum { MaybeTlsStream::Plain, MaybeTlsStream::Tls });
}

impl<C: Connection> Connection for MaybeTlsStream<C> {
    fn connected(&self) -> Connected {
        match self {
            MaybeTlsStream::Plain(stream) => stream.connected(),
            MaybeTlsStream::Tls(stream) => stream.connected(),
        }
    }
}
