//! Streams and bodies that behave as planned. A pause is one `Pending`, so that the schedule of polls decides when it
//! ends.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame as HttpFrame};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::plan::{Frame, Read};

/// Completes after `count` polls that are pending.
pub(crate) async fn pauses(count: u8) {
    for _ in 0..count {
        let mut paused = false;
        poll_fn(|_| if std::mem::replace(&mut paused, true) { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

/// A stream that accepts every write, and whose reads are planned.
#[derive(Debug)]
pub(crate) struct MockIo(VecDeque<Read>);

impl MockIo {
    pub(crate) fn new(reads: &[Read]) -> Self {
        MockIo(reads.iter().copied().collect())
    }
}

impl AsyncRead for MockIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0.front().copied() {
            None => Poll::Ready(Ok(())),
            Some(Read::Never) => Poll::Pending,
            Some(Read::Reset) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Some(Read::Pause) => {
                self.0.pop_front();
                Poll::Pending
            }
            Some(Read::Data(len)) => {
                self.0.pop_front();
                let len = usize::from(len).max(1).min(buf.remaining());
                buf.put_slice(&vec![b'x'; len]);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for MockIo {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(match self.0.front() {
            Some(Read::Reset) => Err(io::ErrorKind::BrokenPipe.into()),
            _ => Ok(buf.len()),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Connection for MockIo {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// A body of planned frames. It owns a value that is dropped with it.
pub(crate) struct MockBody<T> {
    frames: VecDeque<Frame>,
    _held: T,
}

impl<T> MockBody<T> {
    pub(crate) fn new(frames: &[Frame], held: T) -> Self {
        MockBody { frames: frames.iter().cloned().collect(), _held: held }
    }
}

impl<T: Unpin> Body for MockBody<T> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<io::Result<HttpFrame<Bytes>>>> {
        Poll::Ready(match self.frames.pop_front() {
            None => None,
            Some(Frame::Pause) => return Poll::Pending,
            Some(Frame::Data(len)) => Some(Ok(HttpFrame::data(vec![b'x'; len.into()].into()))),
            Some(Frame::Trailers) => {
                let trailer = ("x-end".parse().unwrap(), HeaderValue::from_static("now"));
                Some(Ok(HttpFrame::trailers(HeaderMap::from_iter([trailer]))))
            }
            Some(Frame::Fails) => Some(Err(io::ErrorKind::ConnectionReset.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }
}
