//! [`StampedTcp`]: reads and writes tokio's TCP stream, and takes the kernel's time stamps from it.
//!
//! Stamps of received bytes are peeked at before a read. Those of sent bytes come on the error queue of the socket,
//! which is read with what follows: a read, every eighth write without a read, and the close.
//!
//! # Waiting for room in the send buffer
//!
//! A stamp on the error queue is reported as `EPOLLERR`. mio takes that, together with `EPOLLOUT`, for the end of the
//! writing side, and tokio regards such a stream as writable for ever. `TcpStream::poll_write` would then spin while
//! the send buffer is full. So the stream is written with `try_write`, and if tokio's readiness can no longer be
//! trusted, a duplicate of the socket is registered to wait with. A registration begins without any readiness, and is
//! repeated if what woke it was another stamp. There are at most three stamps a write, so this ends. The duplicate is
//! made when the stamps are turned on: later, the process may have no descriptor left.

use super::{ProbedSocket, so_timestamping as option, stamped_io::StampedIo};
use crate::sink::{ConnRecorder, KernelTimesRecorder};
use std::{
    io::{self, IoSlice},
    mem,
    os::fd::{AsFd, OwnedFd},
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};
use tokio::{
    io::{AsyncRead, Interest, ReadBuf},
    net::TcpStream,
    runtime::Handle,
};

/// Reads and writes a stream whose socket has `SO_TIMESTAMPING`.
pub(super) struct StampedTcp {
    recorder: KernelTimesRecorder,
    /// The runtime that drives the stream.
    runtime: Handle,
    /// A duplicate of the socket, with which to wait while the readiness of the stream cannot be trusted.
    duplicate: Duplicate,
    /// The number of writes since the error queue was read.
    unread_writes: u32,
    /// Whether the record of the connection has ended, so that nothing more is stamped.
    is_over: bool,
}

/// A second descriptor of the socket.
enum Duplicate {
    Unregistered(OwnedFd),
    /// It is being waited with.
    Registered(TcpStream),
    /// The runtime has ended, or the duplicate was given away.
    Gone,
}

/// How many writes may leave their stamps on the error queue, where they take memory from the receive buffer: about
/// 2 KiB a write.
const MAX_UNREAD_WRITES: u32 = 8;

impl StampedTcp {
    /// Turns the stamps on for a connection that has just been established. Returns `None` if it is not sampled, or the
    /// kernel cannot stamp it.
    pub(super) fn start(stream: &TcpStream, conn: &ConnRecorder) -> Option<Self> {
        let recorder = conn.kernel_times()?;
        let runtime = Handle::try_current().ok()?;
        let duplicate = Duplicate::Unregistered(stream.as_fd().try_clone_to_owned().ok()?);
        let is_on = option::enable(stream.probe_socket());
        is_on.then_some(StampedTcp { recorder, runtime, duplicate, unread_writes: 0, is_over: false })
    }

    /// Turns the stamps off once the record of the connection has ended, as it does when the sink is closed.
    fn stop_at_end(&mut self, stream: &TcpStream) {
        if !self.is_over && !self.recorder.is_open() {
            option::disable(stream.probe_socket());
            self.is_over = true;
        }
    }

    /// Reads the error queue.
    fn read_error_queue(&mut self, stream: &TcpStream) {
        /// More than [`MAX_UNREAD_WRITES`] writes leave on the queue, unless there are many retransmissions.
        const MAX_MESSAGES: u32 = 64;
        for _ in 0..MAX_MESSAGES {
            let Some(message) = option::next_send_stamp(stream.probe_socket()) else { break };
            let Some(stamp) = message else { continue };
            self.recorder.stamped(stamp.byte, stamp.stage, stamp.at);
            if !self.recorder.awaits_stamps() {
                break; // that of the last acknowledgement is the last of all
            }
        }
        self.unread_writes = 0;
    }

    fn poll_writable(&self, stream: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.duplicate {
            Duplicate::Registered(duplicate) => duplicate.poll_write_ready(cx),
            Duplicate::Unregistered(_) | Duplicate::Gone => stream.poll_write_ready(cx),
        }
    }

    /// Prepares to wait for room in the send buffer, which is full although the readiness says otherwise.
    ///
    /// # Errors
    ///
    /// If the runtime has ended.
    fn prepare_to_wait(&mut self, stream: &TcpStream) -> io::Result<()> {
        self.read_error_queue(stream);
        if matches!(self.duplicate, Duplicate::Registered(_)) || is_write_closed(stream) {
            self.duplicate = Duplicate::Registered(self.register()?);
        }
        Ok(())
    }

    /// Registers the duplicate, of whose readiness nothing is known then.
    fn register(&mut self) -> io::Result<TcpStream> {
        self.unregister()?;
        let Duplicate::Unregistered(fd) = mem::replace(&mut self.duplicate, Duplicate::Gone) else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let _context = self.runtime.enter();
        TcpStream::from_std(fd.into())
    }

    fn unregister(&mut self) -> io::Result<()> {
        self.duplicate = match mem::replace(&mut self.duplicate, Duplicate::Gone) {
            Duplicate::Registered(stream) => Duplicate::Unregistered(stream.into_std()?.into()),
            other => other,
        };
        Ok(())
    }
}

/// Returns `true` if tokio regards the stream as one that is always writable.
fn is_write_closed(stream: &TcpStream) -> bool {
    let ready = pin!(stream.ready(Interest::WRITABLE)).poll(&mut Context::from_waker(Waker::noop()));
    matches!(ready, Poll::Ready(Ok(ready)) if ready.is_write_closed())
}

fn try_write(stream: &TcpStream, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    match bufs {
        [buf] => stream.try_write(buf),
        _ => stream.try_write_vectored(bufs),
    }
}

impl StampedIo<TcpStream> for StampedTcp {
    fn poll_read(
        &mut self,
        mut stream: Pin<&mut TcpStream>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(stream.poll_read_ready(cx))?;
        self.stop_at_end(&stream);
        let received = match buf.remaining() {
            0 => None,
            _ if self.is_over => None,
            _ => option::first_unread_stamp(stream.probe_socket())?,
        };
        let filled = buf.filled().len();
        let result = ready!(stream.as_mut().poll_read(cx, buf));
        self.recorder.read(received, buf.filled().len() - filled);
        if !self.is_over && self.recorder.awaits_stamps() {
            self.read_error_queue(&stream);
        }
        Poll::Ready(result)
    }

    fn poll_write(
        &mut self,
        stream: Pin<&mut TcpStream>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stop_at_end(&stream);
        loop {
            ready!(self.poll_writable(&stream, cx))?;
            let called = self.recorder.now();
            match try_write(&stream, bufs) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.prepare_to_wait(&stream)?;
                }
                result => {
                    self.unregister()?;
                    if let Ok(len) = result
                        && !self.is_over
                    {
                        self.recorder.wrote(called, len);
                        self.unread_writes += 1;
                    }
                    if self.unread_writes >= MAX_UNREAD_WRITES {
                        self.read_error_queue(&stream);
                    }
                    return Poll::Ready(result);
                }
            }
        }
    }

    fn closing(&mut self, stream: &TcpStream) {
        if !self.recorder.is_open() {
            return;
        }
        if self.recorder.awaits_stamps() {
            self.read_error_queue(stream);
        }
        if let Ok(Some(received)) = option::first_unread_stamp(stream.probe_socket()) {
            self.recorder.left_unread(received);
        }
    }

    fn detach(mut self: Box<Self>, stream: TcpStream) -> TcpStream {
        option::disable(stream.probe_socket());
        self.read_error_queue(&stream);
        if !is_write_closed(&stream) {
            return stream;
        }
        // For whoever writes with tokio's methods from now on.
        self.register().unwrap_or(stream)
    }
}
