//! The stream whose reads and writes are recorded. A sampled connection is read and written through [`StampedIo`].
//!
//! This is the hot path. A recorded read takes 230 instructions, allocates nothing and takes no lock; with a disabled
//! sink it takes 16 (`op/read` and `op/read/off` in benches/instructions.json, which CI guards).

#[cfg(any(feature = "resolve", feature = "server"))]
use super::ProbedSocket;
use super::stamped_io::StampedIo;
#[cfg(all(feature = "timestamping", target_os = "linux"))]
use super::stamped_tcp::StampedTcp;
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
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
#[cfg(any(feature = "resolve", feature = "server"))]
use tokio::net::TcpStream;

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
        // Replaces the stream's own reads and writes; `None` unless the connection is sampled.
        stamped: Option<Box<dyn StampedIo<T>>>,
        // What the stream answered to `connected()` when the connection was recorded, for the first caller.
        description: Mutex<Option<Connected>>,
    }

    impl<T> PinnedDrop for TracedIo<T> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let inner = this.inner.as_ref().as_pin_ref().map(Pin::get_ref);
            if let (Some(inner), Some(stamped)) = (inner, this.stamped) {
                stamped.closing(inner);
            }
            this.ops.closing(inner, *this.socket);
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
        TracedIo { inner: Some(inner), ops, socket: None, stamped: None, description: Mutex::new(None) }
    }

    /// Keeps the stream's description, for which a TCP stream has asked the kernel.
    pub(crate) fn with_description(mut self, description: Option<Connected>) -> Self {
        self.description = Mutex::new(description);
        self
    }

    /// Returns a reference to the inner stream.
    pub fn get_ref(&self) -> &T {
        self.inner.as_ref().expect(INNER_IS_PRESENT)
    }

    /// Returns a mutable reference to the inner stream. Operations on it are not recorded.
    pub fn get_mut(&mut self) -> &mut T {
        // The caller may change what the stream answers, and put another socket in its place.
        *self.description.get_mut().ignore_poison() = None;
        self.detach();
        self.inner.as_mut().expect(INNER_IS_PRESENT)
    }

    /// Returns the inner stream. In the trace, and for probes, the connection is closed.
    pub fn into_inner(mut self) -> T {
        self.detach();
        self.ops.closing(self.inner.as_ref(), self.socket);
        self.inner.take().expect(INNER_IS_PRESENT)
    }

    /// Leaves the stream to its own methods. It may get another descriptor, so the probes are not lent the old one any
    /// more.
    fn detach(&mut self) {
        self.ops.conn.take_back();
        if let Some(stamped) = self.stamped.take() {
            self.inner = self.inner.take().map(|inner| stamped.detach(inner));
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

#[cfg(any(feature = "resolve", feature = "server"))]
impl TracedIo<TcpStream> {
    /// Wraps a socket of this crate. The probes see it when the first byte arrives, when a request on it fails or stalls,
    /// and before it is closed.
    pub(crate) fn tcp(stream: TcpStream, conn: ConnRecorder) -> Self {
        #[cfg(all(feature = "timestamping", target_os = "linux"))]
        let stamped = StampedTcp::start(&stream, &conn).map(|stamped| Box::new(stamped) as _);
        #[cfg(not(all(feature = "timestamping", target_os = "linux")))]
        let stamped = None;
        let mut io = TracedIo::new(stream, conn);
        io.ops.conn.lend(io.get_ref().probe_socket());
        io.socket = Some(TcpStream::probe_socket);
        io.stamped = stamped;
        io
    }
}

const INNER_IS_PRESENT: &str = "only `into_inner`, which consumes the wrapper, takes the stream out";

struct Projection<'a, T> {
    inner: Pin<&'a mut T>,
    ops: &'a mut OpRecorder,
    socket: Option<fn(&T) -> ProbeSocket<'_>>,
    stamped: &'a mut Option<Box<dyn StampedIo<T>>>,
}

impl<T> TracedIo<T> {
    #[inline]
    fn projected(self: Pin<&mut Self>) -> Projection<'_, T> {
        let this = self.project();
        Projection {
            inner: this.inner.as_pin_mut().expect(INNER_IS_PRESENT),
            ops: this.ops,
            socket: *this.socket,
            stamped: this.stamped,
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

impl<T> TracedIo<T> {
    /// Reads from a sampled stream, and records the read.
    #[cold]
    #[inline(never)]
    fn stamped_read<'b>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBuf<'b>,
    ) -> (Poll<io::Result<()>>, ReadBuf<'b>) {
        let Projection { mut inner, ops, socket, stamped } = self.projected();
        let stamped = stamped.as_deref_mut().expect("only called for a sampled stream");
        ops.begin_read();
        let (filled, had_room) = (buf.filled().len(), buf.remaining() > 0);
        let polled = stamped.poll_read(inner.as_mut(), cx, &mut buf);
        if let Poll::Ready(result) = &polled {
            let n = buf.filled().len() - filled;
            let first = stamped::end_read(ops, result.as_ref().map(|()| n), had_room);
            if first && let Some(socket) = socket {
                ops.conn.show(ProbeEvent::FirstByte, socket(&inner));
            }
        }
        (polled, buf)
    }
}

/// Reads and writes of sampled streams. They are separate functions, which keeps the cost for other streams at two
/// instructions per call. Inlined, they would cost a tenth more.
mod stamped {
    use super::*;

    #[cold]
    #[inline(never)]
    pub(super) fn end_read(ops: &mut OpRecorder, result: Result<usize, &io::Error>, had_room: bool) -> bool {
        ops.end_read(result, had_room)
    }

    #[cold]
    #[inline(never)]
    pub(super) fn write<T>(
        inner: Pin<&mut T>,
        ops: &mut OpRecorder,
        stamped: &mut Box<dyn StampedIo<T>>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        write_vectored(inner, ops, stamped, cx, &[IoSlice::new(buf)])
    }

    #[cold]
    #[inline(never)]
    pub(super) fn write_vectored<T>(
        inner: Pin<&mut T>,
        ops: &mut OpRecorder,
        stamped: &mut Box<dyn StampedIo<T>>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ops.begin_write();
        let result = ready!(stamped.poll_write(inner, cx, bufs));
        end_write(ops, &result);
        Poll::Ready(result)
    }

    #[cold]
    #[inline(never)]
    fn end_write(ops: &mut OpRecorder, result: &io::Result<usize>) {
        ops.end_write(result);
    }
}

impl OpRecorder {
    /// Shows the socket to the probes before it is closed.
    fn closing<T>(&self, inner: Option<&T>, socket: Option<fn(&T) -> ProbeSocket<'_>>) {
        self.conn.take_back();
        match (inner, socket) {
            (Some(inner), Some(socket)) => self.conn.show(ProbeEvent::Closing, socket(inner)),
            (Some(_), None) => self.conn.foreign_closing(),
            (None, _) => {}
        }
    }

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
    /// Always inlined. The compiler does so without the branch for sampled streams, but not with it.
    #[inline(always)]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.as_mut().projected();
        if !this.ops.conn.is_on() {
            return this.inner.poll_read(cx, buf);
        }
        if this.stamped.is_some() {
            // By value: a buffer whose address is given away cannot be kept in registers, where a read of a stream that
            // is not sampled would take a tenth more instructions.
            let taken = std::mem::replace(buf, ReadBuf::new(&mut []));
            let (result, filled) = self.stamped_read(cx, taken);
            *buf = filled;
            return result;
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
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.projected();
        if !this.ops.conn.is_on() {
            return this.inner.poll_write(cx, buf);
        }
        if let Some(stamped) = this.stamped {
            return stamped::write(this.inner, this.ops, stamped, cx, buf);
        }
        this.ops.begin_write();
        let result = ready!(this.inner.poll_write(cx, buf));
        this.ops.end_write(&result);
        Poll::Ready(result)
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.projected();
        if !this.ops.conn.is_on() {
            return this.inner.poll_write_vectored(cx, bufs);
        }
        if let Some(stamped) = this.stamped {
            return stamped::write_vectored(this.inner, this.ops, stamped, cx, bufs);
        }
        this.ops.begin_write();
        let result = ready!(this.inner.poll_write_vectored(cx, bufs));
        this.ops.end_write(&result);
        Poll::Ready(result)
    }

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
