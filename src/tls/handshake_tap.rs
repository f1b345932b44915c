//! The stream below TLS during a handshake.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::handshake_observation::HandshakeObservation;
use crate::delegate_io::delegate_flush_and_shutdown;

/// A stream that passes its bytes on and shows them to the observation of the handshake.
///
/// After the handshake, once [`stop_observing`](Self::stop_observing) was called, it only delegates.
#[derive(Debug)]
pub(crate) struct HandshakeTap<T> {
    inner: T,
    observation: Option<Arc<HandshakeObservation>>,
}

impl<T> HandshakeTap<T> {
    pub(crate) fn new(inner: T, observation: Option<Arc<HandshakeObservation>>) -> Self {
        HandshakeTap { inner, observation }
    }

    pub(crate) fn stop_observing(&mut self) {
        self.observation = None;
    }

    pub(crate) fn get_ref(&self) -> &T {
        &self.inner
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for HandshakeTap<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let (Some(observation), Poll::Ready(Ok(()))) = (&self.observation, &result) {
            observation.inspect(|inspector| inspector.received(&buf.filled()[before..]));
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for HandshakeTap<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let (Some(observation), Poll::Ready(Ok(written))) = (&self.observation, &result) {
            observation.inspect(|inspector| inspector.sent(&buf[..*written]));
        }
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        if let (Some(observation), Poll::Ready(Ok(written))) = (&self.observation, &result) {
            let mut left = *written;
            for buf in bufs {
                let part = left.min(buf.len());
                observation.inspect(|inspector| inspector.sent(&buf[..part]));
                left -= part;
            }
        }
        result
    }

    delegate_flush_and_shutdown!(|this| Pin::new(&mut this.get_mut().inner), |this| this.inner);
}
