//! A connection of the pool, in its parts: [`PooledConn`] for the exchange that uses it, [`PooledIo`] for the task of hyper
//! that serves it, and [`ConnHandle`], which both share and by which the pool closes it.
//!
//! hyper owns the stream and gives its user a sender, so there are two owners with lifetimes of their own. Their drops
//! are the events `dropped` and `closed` of the pool.

use super::{
    Outgoing, PoolInner,
    state::{ConnId, Reusable},
};
use crate::{
    client::informational::{InformationalResponses, ObservedRead, StatusLineScanner},
    delegate_io::{delegate_flush_and_shutdown, intercept_write},
    error::ClientClosed,
    record::EndReason,
    sink::ConnRef,
};
use futures_util::future::Either;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
    rt::{Read, ReadBufCursor, Write},
};
use hyper_util::{client::legacy::connect::Connected, rt::TokioIo};
use pin_project_lite::pin_project;
use std::{
    fmt,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
    },
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

/// How long to wait for a connection whose response was read and that is not ready yet.
pub(super) const READY_GRACE: Duration = Duration::from_millis(5);

/// The state of a connection that its user, its stream and its task share.
pub(super) struct ConnHandle {
    pub(super) pool: Arc<PoolInner>,
    pub(super) id: ConnId,
    /// The metadata from the connector.
    pub(super) connected: Connected,
    /// The identity of the connection in the trace; `None` if it is not recorded.
    pub(super) conn: Option<ConnRef>,
    /// The runtime of its task. Its user may be outside of any runtime.
    pub(super) runtime: Handle,
    pub(super) informational: InformationalResponses,
    is_failing: AtomicBool,
    /// The waker of the task that reads from the stream. A spawned task has the same waker in all polls.
    reader: OnceLock<Waker>,
}

impl ConnHandle {
    /// Returns the handle of a connection that runs on the current runtime.
    pub(super) fn new(
        pool: Arc<PoolInner>,
        id: ConnId,
        connected: Connected,
        conn: Option<ConnRef>,
    ) -> Arc<Self> {
        Arc::new(ConnHandle {
            pool,
            id,
            connected,
            conn,
            runtime: Handle::current(),
            informational: InformationalResponses::default(),
            is_failing: AtomicBool::new(false),
            reader: OnceLock::new(),
        })
    }

    /// Records why the connection is about to be closed.
    pub(super) fn set_close_reason(&self, reason: EndReason) {
        if let Some(conn) = &self.conn {
            conn.set_close_reason(reason);
        }
    }

    /// Returns `true` if the stream has to fail because the client is closed.
    #[inline]
    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Relaxed)
    }

    /// Has the stream fail from now on.
    pub(super) fn fail(&self) {
        self.set_close_reason(EndReason::Closed);
        self.is_failing.store(true, Relaxed);
        fence(SeqCst);
        self.wake();
    }

    /// Wakes the task that reads from the stream.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.reader.get() {
            waker.wake_by_ref();
        }
    }

    /// Registers the task that reads. Call this before [`is_failing`](Self::is_failing).
    #[inline]
    fn register_reader(&self, waker: &Waker) {
        if self.reader.get().is_none() {
            let _ = self.reader.set(waker.clone());
            // Pairs with the fence in `fail`: the reader sees the flag, or `fail` sees the waker.
            fence(SeqCst);
        }
    }
}

impl fmt::Debug for ConnHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnHandle").field("conn", &self.conn).finish_non_exhaustive()
    }
}

/// The use of a connection by one exchange: all of it over HTTP/1, a share of it over HTTP/2.
///
/// If this is dropped, an HTTP/1 connection is closed, and an HTTP/2 connection has one stream less.
pub(super) struct PooledConn {
    sender: Sender,
    pub(super) handle: Arc<ConnHandle>,
    /// Whether it was used before, or is used by others. A request that it did not begin can be sent over another one.
    pub(super) is_reused: bool,
}

enum Sender {
    Http1(http1::SendRequest<Outgoing>),
    Http2(http2::SendRequest<Outgoing>),
}

impl PooledConn {
    pub(super) fn http1(sender: http1::SendRequest<Outgoing>, handle: Arc<ConnHandle>) -> Self {
        PooledConn { sender: Sender::Http1(sender), handle, is_reused: false }
    }

    pub(super) fn http2(sender: http2::SendRequest<Outgoing>, handle: Arc<ConnHandle>) -> Self {
        PooledConn { sender: Sender::Http2(sender), handle, is_reused: false }
    }

    pub(super) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Sends the request. It comes back with the error if the connection did not begin it.
    pub(super) fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Outgoing>>>> + use<> {
        match &mut self.sender {
            Sender::Http1(sender) => Either::Left(sender.try_send_request(request)),
            Sender::Http2(sender) => Either::Right(sender.try_send_request(request)),
        }
    }

    /// Leaves the connection to the next exchange. If the response was read to its end, a connection that can be used
    /// again is ready soon.
    pub(super) fn finish(self, was_read: bool) {
        let ConnHandle { pool, id, .. } = &*self.handle;
        if self.is_http2() {
            return; // its drop ends the stream
        }
        if self.is_ready() {
            self.release();
        } else if was_read && pool.with(|state| state.returning(*id)) {
            self.release_when_ready(true);
        } else if !was_read && pool.with(|state| state.will_be_reused()) {
            self.release_when_ready(false);
        }
    }

    fn release(mut self) {
        self.is_reused = true;
        let pool = self.handle.pool.clone();
        pool.with(|state| state.release(self.handle.id, self, Instant::now()));
    }

    /// Releases the connection when the rest of the request was sent and the rest of the response was read.
    pub(super) fn release_when_ready(self, is_returning: bool) {
        let (tasks, runtime) = (self.handle.pool.tasks.clone(), self.handle.runtime.clone());
        tasks.spawn_on(self.released_when_ready(is_returning), &runtime);
    }

    async fn released_when_ready(mut self, is_returning: bool) {
        let Sender::Http1(sender) = &mut self.sender else { return };
        let mut ready = pin!(poll_fn(|cx| sender.poll_ready(cx)));
        if is_returning && let Ok(ready) = timeout(READY_GRACE, ready.as_mut()).await {
            if ready.is_ok() {
                self.release();
            }
            return;
        }
        self.handle.pool.with(|state| state.late(self.handle.id));
        if ready.await.is_ok() {
            self.release();
        }
    }

    /// Gives the connection to another protocol. hyper needs the sender until it has done so.
    pub(super) fn upgrade(mut self) {
        let (tasks, runtime) = (self.handle.pool.tasks.clone(), self.handle.runtime.clone());
        let upgraded = async move {
            if let Sender::Http1(sender) = &mut self.sender {
                let _ = poll_fn(|cx| sender.poll_ready(cx)).await; // an error is the end of HTTP
            }
        };
        tasks.spawn_on(upgraded, &runtime);
    }
}

impl Reusable for PooledConn {
    type Handle = Arc<ConnHandle>;

    fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready(),
        }
    }

    fn is_shareable(&self) -> bool {
        self.is_http2()
    }

    fn share(&self) -> Option<Self> {
        let Sender::Http2(sender) = &self.sender else { return None };
        let sender = Sender::Http2(sender.clone());
        Some(PooledConn { sender, handle: self.handle.clone(), is_reused: true })
    }
}

impl Drop for PooledConn {
    fn drop(&mut self) {
        self.handle.pool.with(|state| state.dropped(self.handle.id, Instant::now()));
    }
}

impl fmt::Debug for PooledConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

/// The permit to have a connection, within the limit per host, from before the dial until its stream is closed.
pub(super) struct ConnPermit {
    pub(super) pool: Arc<PoolInner>,
    pub(super) id: ConnId,
}

impl Drop for ConnPermit {
    fn drop(&mut self) {
        self.pool.with(|state| state.closed(self.id));
    }
}

impl fmt::Debug for ConnPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnPermit({:?})", self.id)
    }
}

/// A guard in the task that serves a connection. Its drop reports the end of that task.
pub(super) struct TaskGuard(pub(super) Arc<ConnHandle>);

impl Drop for TaskGuard {
    fn drop(&mut self) {
        self.0.pool.with(|state| state.task_ended(self.0.id));
    }
}

pin_project! {
    /// The stream of a connection. It fails when the client is closed, and is scanned for informational responses.
    #[derive(Debug)]
    pub(super) struct PooledIo<T> {
        #[pin]
        inner: T,
        handle: Arc<ConnHandle>,
        scanner: StatusLineScanner,
        // Declared after the stream, so that the stream is closed before the next waiter may dial.
        permit: ConnPermit,
    }
}

impl<T> PooledIo<T> {
    pub(super) fn new(inner: T, handle: Arc<ConnHandle>, permit: ConnPermit) -> Self {
        PooledIo { inner, handle, scanner: StatusLineScanner::default(), permit }
    }

    /// Writes unless the client is closed.
    #[inline]
    fn write_if_open(
        self: Pin<&mut Self>,
        write: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        if this.handle.is_failing() { closed() } else { write(this.inner) }
    }
}

fn closed<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, ClientClosed)))
}

impl<T: Read> Read for PooledIo<T> {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        this.handle.register_reader(cx.waker());
        let responses = &this.handle.informational;
        if this.handle.is_failing() {
            closed()
        } else if responses.are_awaited() {
            // What was read is visible through tokio's traits only.
            let inner = TokioIo::new(this.inner);
            let mut observed = TokioIo::new(ObservedRead { inner, scanner: this.scanner, responses });
            Pin::new(&mut observed).poll_read(cx, buf)
        } else {
            this.inner.poll_read(cx, buf)
        }
    }
}

impl<T: Write> Write for PooledIo<T> {
    intercept_write!(Self::write_if_open);
    delegate_flush_and_shutdown!(|this| this.project().inner, |this| this.inner);
}
