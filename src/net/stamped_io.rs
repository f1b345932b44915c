//! [`StampedIo`]: reads and writes a stream while the kernel stamps its bytes.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::ReadBuf;

/// Reads and writes a stream in place of the stream's own methods, to take the kernel's time stamps from its socket.
///
/// [`TracedIo`](super::TracedIo) has one only for the connections that are sampled. It behaves as the stream does.
pub(super) trait StampedIo<T>: Send + Sync {
    /// Reads as tokio's `AsyncRead` does.
    fn poll_read(
        &mut self,
        stream: Pin<&mut T>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>;

    /// Writes as tokio's `AsyncWrite` does.
    fn poll_write(
        &mut self,
        stream: Pin<&mut T>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>;

    /// Takes the last stamps, because the stream is about to be closed.
    fn closing(&mut self, stream: &T);

    /// Ends the stamping, because the stream is given to somebody else. Returns the stream as it was.
    fn detach(self: Box<Self>, stream: T) -> T;
}
