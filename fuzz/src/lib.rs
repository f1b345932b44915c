//! A connection whose bytes are read, for fuzz targets to pass bytes over.

use hyper::rt::{Read as _, ReadBuf, ReadBufCursor, Write as _};
use hyper_util::client::legacy::connect::{Connected, Connection};
use nettrace::{
    HeaderCapture, TraceSink,
    connect::{TraceConnectLayer, TracedIo},
    wire::{TraceWireLayer, WireIo},
};
use std::{
    convert::Infallible,
    future::{Future, ready},
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};
use tower::{Layer as _, ServiceExt as _, service_fn};

/// A connection, and the sink that records it.
pub struct Conn {
    sink: TraceSink,
    io: WireIo<TracedIo<Scripted>>,
}

impl Conn {
    /// Creates a connection that records header fields with their values.
    pub fn new() -> Self {
        let sink = TraceSink::builder().headers(HeaderCapture::Values).build();
        let scripted = service_fn(|_: http::Uri| ready(Ok::<_, Infallible>(Scripted::default())));
        let connector = TraceWireLayer::new(&sink).layer(TraceConnectLayer::new(&sink).layer(scripted));
        let connected = pin!(connector.oneshot(http::Uri::from_static("http://fuzz.test/")));
        match connected.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(io)) => Conn { sink, io },
            Poll::Ready(Err(error)) => panic!("{error}"),
            Poll::Pending => panic!("nothing here waits"),
        }
    }

    /// Has the client send bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        let cx = &mut Context::from_waker(Waker::noop());
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        assert!(matches!(written, Poll::Ready(Ok(length)) if length == bytes.len()));
    }

    /// Has the server answer with bytes.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.io.get_mut().get_mut().0 = bytes.to_vec();
        let (cx, mut room) = (&mut Context::from_waker(Waker::noop()), vec![0; bytes.len()]);
        let mut buf = ReadBuf::new(&mut room);
        assert!(Pin::new(&mut self.io).poll_read(cx, buf.unfilled()).is_ready());
        assert_eq!(buf.filled(), bytes);
    }

    /// Closes the connection, and asserts that every record has ended and that the trace can be drawn.
    pub fn close(self) {
        drop(self.io);
        let trace = self.sink.snapshot("fuzz");
        assert!(trace.http_requests.iter().all(|request| request.end_reason.is_some()));
        let _ = nettrace::view::waterfall(&trace).to_string();
    }
}

impl Default for Conn {
    fn default() -> Self {
        Self::new()
    }
}

/// Passes bytes over a connection. The first byte of each piece says who sends it, and how long it is.
pub fn converse(conn: &mut Conn, mut bytes: &[u8]) {
    while let Some((head, rest)) = bytes.split_first() {
        let length = usize::from(head & 0x7f).min(rest.len());
        let (piece, behind) = rest.split_at(length);
        if head & 0x80 == 0 {
            conn.send(piece)
        } else {
            conn.receive(piece)
        }
        bytes = behind;
    }
}

/// A stream that takes whatever is written, and has been given what is read.
#[derive(Debug, Default)]
pub struct Scripted(Vec<u8>);

impl Connection for Scripted {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Scripted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        buf.put_slice(&std::mem::take(&mut self.0));
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Scripted {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
