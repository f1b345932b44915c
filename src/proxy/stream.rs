use crate::delegate_io::delegate_write;
use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use pin_project_lite::pin_project;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

pin_project! {
    /// The stream of [`ProxyConnector`](super::ProxyConnector): that of the inner connector, possibly through a proxy.
    #[derive(Debug)]
    pub struct ProxyStream<T> {
        #[pin]
        inner: T,
        // Bytes of the destination that were read together with the proxy's response.
        read_ahead: Bytes,
        // It leads to a proxy that forwards requests.
        is_forwarding: bool,
    }
}

impl<T> ProxyStream<T> {
    /// Wraps a stream that leads to the destination directly.
    pub(super) fn direct(inner: T) -> Self {
        Self::tunnel(inner, Bytes::new())
    }

    /// Wraps a tunnel to the destination, from which `read_ahead` was read already.
    pub(super) fn tunnel(inner: T, read_ahead: Bytes) -> Self {
        ProxyStream { inner, read_ahead, is_forwarding: false }
    }

    /// Wraps a stream to a proxy that forwards requests: each must say where it is to go.
    pub(super) fn forwarding(inner: T) -> Self {
        ProxyStream { inner, read_ahead: Bytes::new(), is_forwarding: true }
    }

    /// Returns a reference to the inner stream.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Returns a mutable reference to the inner stream. Bytes that came together with the proxy's response cannot be
    /// read from it.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Returns the inner stream, and the bytes that came together with the proxy's response, which must be read first.
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
            *this.read_ahead = Bytes::new(); // frees the buffer, which has the whole response head
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Write> Write for ProxyStream<T> {
    delegate_write!(|this| this.project().inner, |this| this.inner);
}

impl<T: Connection> Connection for ProxyStream<T> {
    fn connected(&self) -> Connected {
        let connected = self.inner.connected();
        if self.is_forwarding { connected.proxy(true) } else { connected }
    }
}
