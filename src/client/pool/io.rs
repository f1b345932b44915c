//! A connection of the pool: counted while it is open, and made to fail when the client is closed.

use super::{conn_handle::ConnHandle, permit::ConnPermit};
use crate::{
    client::informational::{Listening, StatusLineScanner},
    error::ClientClosed,
};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

pin_project! {
    #[derive(Debug)]
    pub(super) struct PooledIo<T> {
        #[pin]
        inner: T,
        handle: Arc<ConnHandle>,
        scanner: StatusLineScanner,
        // Given up after the stream is closed.
        place: ConnPermit,
    }
}

impl<T> PooledIo<T> {
    pub(super) fn new(inner: T, handle: Arc<ConnHandle>, place: ConnPermit) -> Self {
        PooledIo { inner, handle, scanner: StatusLineScanner::default(), place }
    }
}

fn closed<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, ClientClosed)))
}

impl<T: Read> Read for PooledIo<T> {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        this.handle.watch(cx.waker());
        let (inner, interim) = (this.inner, &this.handle.interim);
        if this.handle.is_failing() {
            closed()
        } else if interim.is_awaited() {
            // What was read can be seen through tokio's traits only.
            let mut inner =
                TokioIo::new(Listening { inner: TokioIo::new(inner), scanner: this.scanner, interim });
            Pin::new(&mut inner).poll_read(cx, buf)
        } else {
            inner.poll_read(cx, buf)
        }
    }
}

impl<T: Write> Write for PooledIo<T> {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        if this.handle.is_failing() { closed() } else { this.inner.poll_write(cx, buf) }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        if this.handle.is_failing() { closed() } else { this.inner.poll_write_vectored(cx, bufs) }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(cx)
    }
}
