//! [`PassingTls`]: a stream to a server that carries a relayed client's TLS, and records its handshake.

use super::passing_handshake::PassingHandshake;
use crate::{
    error::classify::io_failure_detail,
    sink::{ConnRef, TraceSink},
};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream to a server over which the bytes of another client pass, whose TLS handshake is recorded.
#[derive(Debug)]
pub(crate) struct PassingTls<T> {
    // Before the stream, so that the tunnel ends before its connection does.
    handshake: PassingHandshake,
    inner: T,
}

impl<T> PassingTls<T> {
    pub(crate) fn new(sink: &TraceSink, conn: Option<ConnRef>, inner: T) -> Self {
        PassingTls { handshake: PassingHandshake::new(sink, conn), inner }
    }

    pub(crate) fn get_ref(&self) -> &T {
        &self.inner
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for PassingTls<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, had_room) = (buf.filled().len(), buf.remaining() > 0);
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        match &result {
            Poll::Ready(Ok(())) if buf.filled().len() == before && had_room => {
                self.handshake.server_ended(None)
            }
            Poll::Ready(Ok(())) => self.handshake.server_sent(&buf.filled()[before..]),
            Poll::Ready(Err(error)) => self.handshake.server_ended(Some(io_failure_detail(error))),
            Poll::Pending => {}
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for PassingTls<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = &result {
            self.handshake.client_sent(&buf[..*written]);
        }
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.handshake.client_ended();
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
