use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::handshake::Witness;

/// Shows the bytes of a handshake to its witness. Once stopped it is a plain wrapper.
#[derive(Debug)]
pub(crate) struct Tap<T> {
    inner: T,
    witness: Option<Arc<Witness>>,
}

impl<T> Tap<T> {
    pub(crate) fn new(inner: T, witness: Option<Arc<Witness>>) -> Self {
        Tap { inner, witness }
    }

    pub(crate) fn stop(&mut self) {
        self.witness = None;
    }

    pub(crate) fn get_ref(&self) -> &T {
        &self.inner
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Tap<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let (Some(witness), Poll::Ready(Ok(()))) = (&self.witness, &result) {
            witness.hellos(|hellos| hellos.received(&buf.filled()[before..]));
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Tap<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let (Some(witness), Poll::Ready(Ok(written))) = (&self.witness, &result) {
            witness.hellos(|hellos| hellos.sent(&buf[..*written]));
        }
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        if let (Some(witness), Poll::Ready(Ok(written))) = (&self.witness, &result) {
            let mut left = *written;
            for buf in bufs {
                let part = left.min(buf.len());
                witness.hellos(|hellos| hellos.sent(&buf[..part]));
                left -= part;
            }
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
