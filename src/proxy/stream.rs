use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use pin_project_lite::pin_project;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

pin_project! {
    /// The stream of [`ProxyConnector`](super::ProxyConnector): that of the connector within, which may lead through
    /// a proxy.
    #[derive(Debug)]
    pub struct ProxyStream<T> {
        #[pin]
        inner: T,
        // What came right behind the proxy's answer.
        read_ahead: Bytes,
        is_forwarding: bool,
    }
}

impl<T> ProxyStream<T> {
    pub(super) fn direct(inner: T) -> Self {
        Self::tunnel(inner, Bytes::new())
    }

    /// `read_ahead` is what was read already of what the destination says.
    pub(super) fn tunnel(inner: T, read_ahead: Bytes) -> Self {
        ProxyStream { inner, read_ahead, is_forwarding: false }
    }

    /// It leads to a proxy that is told with each request where that is to go.
    pub(super) fn forwarding(inner: T) -> Self {
        ProxyStream { inner, read_ahead: Bytes::new(), is_forwarding: true }
    }

    /// The stream within.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The stream within. What came together with the proxy's answer cannot be read from it.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// The stream within, and what came together with the proxy's answer: that is to be read first.
    pub fn into_parts(self) -> (T, Bytes) {
        (self.inner, self.read_ahead)
    }
}

impl<T: Read> Read for ProxyStream<T> {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        if this.read_ahead.is_empty() {
            return this.inner.poll_read(cx, buf);
        }
        let len = this.read_ahead.len().min(buf.remaining());
        buf.put_slice(&this.read_ahead[..len]);
        this.read_ahead.advance(len);
        if this.read_ahead.is_empty() {
            *this.read_ahead = Bytes::new(); // and lets go of the rest of the head
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Write> Write for ProxyStream<T> {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write(cx, buf)
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write_vectored(cx, bufs)
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

impl<T: Connection> Connection for ProxyStream<T> {
    fn connected(&self) -> Connected {
        let connected = self.inner.connected();
        if self.is_forwarding { connected.proxy(true) } else { connected }
    }
}
