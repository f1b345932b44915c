//! The stream whose reads and writes are recorded.
//!
//! This is the hot path. A recorded read takes 227 instructions, allocates nothing and takes no lock; with a disabled
//! sink it takes 13 (`op/read` and `op/read/off` in benches/instructions.json, which CI guards).

use crate::{
    delegate_io::{delegate_flush_and_shutdown, intercept_write},
    record::TraceId,
    sink::{ConnRecorder, ConnRef, ProbeEvent, ProbeSocket, Tick, describe_conn},
    sync::IgnorePoison,
};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use pin_project_lite::pin_project;
use std::{
    fmt, io,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[cfg(feature = "futures-io")]
mod futures_io;

pin_project! {
    /// A stream whose reads and writes are recorded. The connection ends when it is dropped.
    ///
    /// Implements tokio's `AsyncRead` and `AsyncWrite` if `T` does, hyper's `Read` and `Write` if `T` does, and with
    /// the feature `futures-io` the traits of that crate if `T` does. It is `Send`, `Sync` and `Unpin` exactly when `T`
    /// is, and passes vectored reads and writes on.
    ///
    /// An operation lasts from its first poll to its `Ready`; the polls in between are part of it. Flushes and
    /// shutdowns are not recorded.
    pub struct TracedIo<T> {
        // `None` only inside `into_inner`, since the fields of a type with a destructor cannot be moved out.
        #[pin]
        inner: Option<T>,
        ops: OpRecorder,
        // How to lend the socket to probes; `None` if the stream is not a socket of this crate.
        socket: Option<fn(&T) -> ProbeSocket<'_>>,
        // What the stream answered to `connected()` when the connection was recorded, for the first caller.
        description: Mutex<Option<Connected>>,
    }

    impl<T> PinnedDrop for TracedIo<T> {
        fn drop(this: Pin<&mut Self>) {
            this.as_ref().closing();
        }
    }
}

/// The connection's recorder and the times at which pending operations began.
#[derive(Debug, Default)]
struct OpRecorder {
    conn: ConnRecorder,
    read: Option<Tick>,
    write: Option<Tick>,
}

impl<T> TracedIo<T> {
    pub(crate) fn new(inner: T, conn: ConnRecorder) -> Self {
        let ops = OpRecorder { conn, read: None, write: None };
        TracedIo { inner: Some(inner), ops, socket: None, description: Mutex::new(None) }
    }

    /// Keeps the stream's description, for which a TCP stream has asked the kernel.
    pub(crate) fn with_description(mut self, description: Option<Connected>) -> Self {
        self.description = Mutex::new(description);
        self
    }

    /// Shows the socket to the probes when the first byte arrives and before it is closed.
    #[cfg(any(feature = "resolve", feature = "server"))]
    pub(crate) fn with_socket(mut self, socket: fn(&T) -> ProbeSocket<'_>) -> Self {
        self.socket = Some(socket);
        self
    }

    /// Returns a reference to the inner stream.
    pub fn get_ref(&self) -> &T {
        self.inner.as_ref().expect(INNER_IS_PRESENT)
    }

    /// Returns a mutable reference to the inner stream. Operations on it are not recorded.
    pub fn get_mut(&mut self) -> &mut T {
        // The caller may change what the stream answers.
        *self.description.get_mut().ignore_poison() = None;
        self.inner.as_mut().expect(INNER_IS_PRESENT)
    }

    /// Returns the inner stream. In the trace, and for probes, the connection is closed.
    pub fn into_inner(mut self) -> T {
        self.closing();
        self.inner.take().expect(INNER_IS_PRESENT)
    }

    /// Shows the socket to the probes before it is closed.
    fn closing(&self) {
        match (&self.inner, self.socket) {
            (Some(inner), Some(socket)) => self.ops.conn.show(ProbeEvent::Closing, socket(inner)),
            (Some(_), None) => self.ops.conn.foreign_closing(),
            (None, _) => {}
        }
    }

    /// Returns the identifier of the connection in the trace; empty if it is not traced.
    pub fn conn_id(&self) -> TraceId {
        self.conn_ref().map_or_else(TraceId::default, ConnRef::id)
    }

    /// Returns the identity of the connection; `None` if it is not traced.
    pub fn conn_ref(&self) -> Option<&ConnRef> {
        self.ops.conn.conn_ref()
    }
}

const INNER_IS_PRESENT: &str = "only `into_inner`, which consumes the wrapper, takes the stream out";

struct Projection<'a, T> {
    inner: Pin<&'a mut T>,
    ops: &'a mut OpRecorder,
    socket: Option<fn(&T) -> ProbeSocket<'_>>,
}

impl<T> TracedIo<T> {
    #[inline]
    fn projected(self: Pin<&mut Self>) -> Projection<'_, T> {
        let this = self.project();
        Projection {
            inner: this.inner.as_pin_mut().expect(INNER_IS_PRESENT),
            ops: this.ops,
            socket: *this.socket,
        }
    }

    /// Writes, and records the write if the connection is traced.
    #[inline]
    fn recorded_write(
        self: Pin<&mut Self>,
        write: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let this = self.projected();
        if !this.ops.conn.is_on() {
            return write(this.inner);
        }
        this.ops.begin_write();
        let result = ready!(write(this.inner));
        this.ops.end_write(&result);
        Poll::Ready(result)
    }
}

impl OpRecorder {
    #[inline]
    fn begin_read(&mut self) {
        if self.read.is_none() {
            self.read = self.conn.start();
        }
    }

    /// Records a completed read. Returns `true` if it brought the first byte of the connection.
    ///
    /// With `#[inline]` alone, a program that traces several types of streams calls this, and a read takes a sixth more
    /// instructions.
    #[inline(always)]
    fn end_read(&mut self, result: Result<usize, &io::Error>, had_room: bool) -> bool {
        let call = self.read.take();
        if had_room && matches!(result, Ok(0)) {
            self.conn.peer_closed();
        }
        self.conn.read(call, result)
    }

    #[inline]
    fn begin_write(&mut self) {
        if self.write.is_none() {
            self.write = self.conn.start();
        }
    }

    #[inline]
    fn end_write(&mut self, result: &io::Result<usize>) {
        let call = self.write.take();
        self.conn.write(call, result.as_ref().copied());
    }
}

impl<T: AsyncRead> AsyncRead for TracedIo<T> {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.projected();
        if !this.ops.conn.is_on() {
            return this.inner.poll_read(cx, buf);
        }
        this.ops.begin_read();
        let (filled, had_room) = (buf.filled().len(), buf.remaining() > 0);
        let mut inner = this.inner;
        let result = ready!(inner.as_mut().poll_read(cx, buf));
        let n = buf.filled().len() - filled;
        let first = this.ops.end_read(result.as_ref().map(|()| n), had_room);
        if first && let Some(socket) = this.socket {
            this.ops.conn.show(ProbeEvent::FirstByte, socket(&inner));
        }
        Poll::Ready(result)
    }
}

/// A tokio reader around a hyper one that records how much was read.
///
/// hyper's `ReadBufCursor` does not tell how much it was advanced. Between two `TokioIo` adapters the read passes
/// through tokio's `ReadBuf`, which does.
struct CountingReader<'a, T> {
    inner: Pin<&'a mut T>,
    ops: &'a mut OpRecorder,
}

impl<T: hyper::rt::Read> AsyncRead for CountingReader<'_, T> {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let (filled, had_room) = (buf.filled().len(), buf.remaining() > 0);
        let result = ready!(Pin::new(&mut TokioIo::new(this.inner.as_mut())).poll_read(cx, buf));
        let n = buf.filled().len() - filled;
        this.ops.end_read(result.as_ref().map(|()| n), had_room);
        Poll::Ready(result)
    }
}

impl<T: hyper::rt::Read> hyper::rt::Read for TracedIo<T> {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.projected();
        if !this.ops.conn.is_on() {
            return this.inner.poll_read(cx, buf);
        }
        this.ops.begin_read();
        Pin::new(&mut TokioIo::new(CountingReader { inner: this.inner, ops: this.ops })).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite> AsyncWrite for TracedIo<T> {
    intercept_write!(Self::recorded_write);
    delegate_flush_and_shutdown!(|this| this.projected().inner, |this| this.get_ref());
}

impl<T: hyper::rt::Write> hyper::rt::Write for TracedIo<T> {
    intercept_write!(Self::recorded_write);
    delegate_flush_and_shutdown!(|this| this.projected().inner, |this| this.get_ref());
}

impl<T: Connection> Connection for TracedIo<T> {
    /// Describes the stream, with its `ConnRef` as an extra, which thereby gets into the extensions of every response.
    fn connected(&self) -> Connected {
        let kept = || self.description.lock().ignore_poison().take();
        let describe = || kept().unwrap_or_else(|| self.get_ref().connected());
        self.conn_ref().map_or_else(describe, |conn| describe_conn(conn, describe))
    }
}

impl<T: fmt::Debug> fmt::Debug for TracedIo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracedIo").field("conn", &self.conn_ref()).field("inner", self.get_ref()).finish()
    }
}
