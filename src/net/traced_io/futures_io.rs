//! The I/O traits of futures-io, which the streams of async-std, smol and others implement.

use super::{ProbeEvent, TracedIo};
use crate::delegate_io::intercept_write;
use futures_io::{AsyncRead, AsyncWrite};
use std::{
    io::{self, IoSliceMut},
    pin::Pin,
    task::{Context, Poll, ready},
};

impl<T: AsyncRead> TracedIo<T> {
    /// Reads, and records the read if the connection is traced.
    #[inline]
    fn recorded_read(
        self: Pin<&mut Self>,
        had_room: bool,
        read: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let this = self.projected();
        if !this.ops.conn.is_on() {
            return read(this.inner);
        }
        this.ops.begin_read();
        let mut inner = this.inner;
        let result = ready!(read(inner.as_mut()));
        let first = this.ops.end_read(result.as_ref().copied(), had_room);
        if first && let Some(socket) = this.socket {
            this.ops.conn.show(ProbeEvent::FirstByte, socket(&inner));
        }
        Poll::Ready(result)
    }
}

impl<T: AsyncRead> AsyncRead for TracedIo<T> {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.recorded_read(!buf.is_empty(), |inner| inner.poll_read(cx, buf))
    }

    #[inline]
    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let has_room = bufs.iter().any(|buf| !buf.is_empty());
        self.recorded_read(has_room, |inner| inner.poll_read_vectored(cx, bufs))
    }
}

impl<T: AsyncWrite> AsyncWrite for TracedIo<T> {
    intercept_write!(Self::recorded_write);

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.projected().inner.poll_flush(cx)
    }

    #[inline]
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.projected().inner.poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TraceSink, connect::StreamAddrs, record::SocketOpType};
    use futures_util::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};
    use std::{collections::VecDeque, convert::Infallible, io::IoSlice};

    /// A stream that accepts up to three bytes per write, and returns up to three per read. Each operation is ready
    /// when it is polled the second time.
    #[derive(Debug, Default)]
    struct Pieces {
        bytes: VecDeque<u8>,
        was_pending: bool,
        closed: bool,
    }

    impl Pieces {
        fn ready<R>(&mut self, cx: &mut Context<'_>, operation: impl FnOnce(&mut Self) -> R) -> Poll<R> {
            self.was_pending = !self.was_pending;
            if self.was_pending {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(operation(self))
        }
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            self.ready(cx, |this| {
                let n = this.bytes.len().min(3).min(buf.len());
                this.bytes.drain(..n).zip(buf).for_each(|(byte, place)| *place = byte);
                Ok(n)
            })
        }
    }

    impl AsyncWrite for Pieces {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.ready(cx, |this| {
                if this.closed {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                let n = buf.len().min(3);
                this.bytes.extend(&buf[..n]);
                Ok(n)
            })
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.closed = true;
            Poll::Ready(Ok(()))
        }
    }

    fn dialed(sink: &TraceSink) -> TracedIo<Pieces> {
        let connect = std::future::ready(Ok::<_, Infallible>(Pieces::default()));
        let dial = TracedIo::dial(sink, "joe:secret@pieces.test:1", connect, |_| StreamAddrs::default());
        dial.now_or_never().expect("the stream exists").unwrap()
    }

    async fn use_all_methods(stream: &mut TracedIo<Pieces>) {
        stream.write_all(b"hello").await.unwrap();
        assert_eq!(stream.write_vectored(&[IoSlice::new(b"!"), IoSlice::new(b"?")]).await.unwrap(), 1);
        let (mut first, mut second) = ([0; 2], [0; 2]);
        let mut bufs = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        // The default implementation reads into the first buffer that is not empty.
        assert_eq!(stream.read_vectored(&mut bufs).await.unwrap(), 2);
        assert_eq!(&first, b"he");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"llo!");
        stream.flush().await.unwrap();
        stream.close().await.unwrap();
        assert_eq!(stream.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn each_operation_is_recorded_once() {
        let sink = TraceSink::new();
        let mut stream = dialed(&sink);
        use_all_methods(&mut stream).await;
        drop(stream);
        let trace = sink.snapshot("");
        assert_eq!(trace.dials[0].dst_address.as_str(), "pieces.test:1");
        let conn = &trace.tcp_conns[0];
        assert_eq!((conn.total_sent_bytes, conn.total_recv_bytes), (6, 6));
        assert!(conn.end_reason.is_some());
        let ops = &conn.socket_trace.as_ref().expect("operations").socket_ops;
        let lengths_of = |kind: SocketOpType| {
            ops.iter().filter(|op| op.r#type == kind).map(|op| op.data_len).collect::<Vec<_>>()
        };
        // The last write fails. The last read is that of the end.
        assert_eq!(lengths_of(SocketOpType::Write), [3, 2, 1, 0]);
        assert_eq!(lengths_of(SocketOpType::Read), [2, 3, 1, 0]);
    }

    #[tokio::test]
    async fn a_disabled_sink_changes_nothing() {
        let mut stream = dialed(&TraceSink::disabled());
        use_all_methods(&mut stream).await;
        assert!(stream.conn_ref().is_none());
    }
}
