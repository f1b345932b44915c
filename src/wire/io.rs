//! [`WireIo`]: the stream whose bytes are read.

use super::reader::WireReader;
use hyper::rt::ReadBufCursor;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use pin_project_lite::pin_project;
use std::{
    fmt, io,
    io::IoSlice,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pin_project! {
    /// A stream that records the HTTP requests that pass over it.
    ///
    /// Implements tokio's `AsyncRead` and `AsyncWrite` if `T` does, and hyper's `Read` and `Write` if `T` does. The bytes
    /// that pass are not changed, and not held back.
    pub struct WireIo<T> {
        // Dropped before the stream, so that requests that are given up end before their connection.
        reader: Option<Box<WireReader>>,
        #[pin]
        inner: T,
    }
}

impl<T> WireIo<T> {
    pub(super) fn new(inner: T, reader: Option<WireReader>) -> Self {
        WireIo { reader: reader.map(Box::new), inner }
    }

    /// Returns a reference to the inner stream.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Returns a mutable reference to the inner stream. What is read and written there is not seen.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Returns the inner stream. Requests without a complete response end as if the connection were closed.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

/// Implements the methods of a write trait: what the inner stream takes is read.
macro_rules! observe_writes {
    () => {
        #[inline]
        fn is_write_vectored(&self) -> bool {
            self.inner.is_write_vectored()
        }

        #[inline]
        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.project().inner.poll_flush(cx)
        }

        #[inline]
        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let this = self.project();
            let result = ready!(this.inner.poll_shutdown(cx));
            if let Some(reader) = this.reader
                && result.is_ok()
            {
                reader.shut_down();
            }
            Poll::Ready(result)
        }

        #[inline]
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let this = self.project();
            let result = ready!(this.inner.poll_write(cx, buf));
            if let Some(reader) = this.reader {
                wrote(reader, &result, &[IoSlice::new(buf)]);
            }
            Poll::Ready(result)
        }

        #[inline]
        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let this = self.project();
            let result = ready!(this.inner.poll_write_vectored(cx, bufs));
            if let Some(reader) = this.reader {
                wrote(reader, &result, bufs);
            }
            Poll::Ready(result)
        }
    };
}

impl<T: AsyncWrite> AsyncWrite for WireIo<T> {
    observe_writes!();
}

impl<T: hyper::rt::Write> hyper::rt::Write for WireIo<T> {
    observe_writes!();
}

/// Reads what was written of `bufs`.
fn wrote(reader: &mut WireReader, result: &io::Result<usize>, bufs: &[IoSlice<'_>]) {
    match result {
        Ok(written) => {
            let mut left = *written;
            for buf in bufs {
                let written = buf.len().min(left);
                reader.sent(&buf[..written]);
                left -= written;
            }
        }
        Err(error) => reader.write_failed(error),
    }
}

impl<T: AsyncRead> AsyncRead for WireIo<T> {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        match this.reader {
            Some(reader) => Pin::new(&mut ObservedRead { inner: this.inner, reader }).poll_read(cx, buf),
            None => this.inner.poll_read(cx, buf),
        }
    }
}

impl<T: hyper::rt::Read> hyper::rt::Read for WireIo<T> {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let Some(reader) = this.reader else { return this.inner.poll_read(cx, buf) };
        // hyper's cursor does not show what was read. Between two adapters the read passes through tokio's buffer.
        let mut inner = TokioIo::new(this.inner);
        let observed = ObservedRead { inner: Pin::new(&mut inner), reader };
        Pin::new(&mut TokioIo::new(observed)).poll_read(cx, buf)
    }
}

/// A read whose bytes are read by a [`WireReader`], too.
struct ObservedRead<'a, T> {
    inner: Pin<&'a mut T>,
    reader: &'a mut WireReader,
}

impl<T: AsyncRead> AsyncRead for ObservedRead<'_, T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (before, had_room) = (buf.filled().len(), buf.remaining() > 0);
        let result = ready!(this.inner.as_mut().poll_read(cx, buf));
        match &result {
            Ok(()) if had_room => this.reader.received(&buf.filled()[before..]),
            Ok(()) => {}
            Err(error) => this.reader.read_failed(error),
        }
        Poll::Ready(result)
    }
}

impl<T: Connection> Connection for WireIo<T> {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}

impl<T: fmt::Debug> fmt::Debug for WireIo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WireIo").field(&self.inner).finish()
    }
}
