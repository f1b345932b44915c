//! A connector whose connections store themselves in the context of the task that writes to them.

use super::task_context::{SharedContext, with_context, without_context};
use crate::{
    connect::TracedIo,
    delegate_io::{delegate_flush_and_shutdown, delegate_read, intercept_write},
    sink::{ConnRef, DialRef, TraceSink},
};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use pin_project_lite::pin_project;
use std::{
    any::Any,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::{net::TcpStream, time::Instant};
use tower_layer::Layer;
use tower_service::Service;

/// A layer for the connector of a channel that lets calls find their connection. See the [module](super).
///
/// It records nothing itself. The inner connector records the connections: a
/// [`TcpConnector`](crate::connect::TcpConnector), or any other inside
/// [`TraceConnectLayer`](crate::connect::TraceConnectLayer). The dial must begin while the connector is called or its
/// future is polled, not in a task of its own. Alternatively the stream is a [`TracedIo`] over TCP or a Unix socket
/// that was connected before.
#[derive(Clone, Debug)]
pub struct LinkLayer {
    sink: TraceSink,
    limit: Option<Duration>,
}

impl LinkLayer {
    /// Creates a layer for connections that are recorded into `sink`.
    pub fn new(sink: &TraceSink) -> Self {
        LinkLayer { sink: sink.clone(), limit: None }
    }

    /// Sets the connect timeout of the channel,
    /// [`Endpoint::connect_timeout`](::tonic::transport::Endpoint::connect_timeout). A dial that is dropped after this
    /// time is recorded as timed out, not as cancelled. The layer itself has no timeout.
    pub fn connect_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.limit = limit.into();
        self
    }
}

impl<C> Layer<C> for LinkLayer {
    type Service = LinkConnect<C>;

    fn layer(&self, inner: C) -> LinkConnect<C> {
        LinkConnect { inner, sink: self.sink.clone(), limit: self.limit }
    }
}

/// A connector of a channel. Created by [`LinkLayer`].
#[derive(Clone, Debug)]
pub struct LinkConnect<C> {
    inner: C,
    sink: TraceSink,
    limit: Option<Duration>,
}

impl<C> LinkConnect<C> {
    /// Returns the inner connector.
    pub fn get_ref(&self) -> &C {
        &self.inner
    }

    /// Returns the inner connector.
    pub fn get_mut(&mut self) -> &mut C {
        &mut self.inner
    }

    /// Returns the inner connector.
    pub fn into_inner(self) -> C {
        self.inner
    }
}

impl<C> Service<Uri> for LinkConnect<C>
where
    C: Service<Uri>,
    C::Response: 'static,
{
    type Response = LinkIo<C::Response>;
    type Error = C::Error;
    type Future = LinkConnectFuture<C::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        without_context(|| self.inner.poll_ready(cx))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        with_context(|context| *context = SharedContext::default());
        let mut watch = self.sink.is_enabled().then(|| DialWatch::start(self.limit));
        LinkConnectFuture { inner: observe_dials(&mut watch, || self.inner.call(uri)), watch }
    }
}

pin_project! {
    /// The connect future of [`LinkConnect`].
    #[derive(Debug)]
    pub struct LinkConnectFuture<F> {
        #[pin]
        inner: F,
        // None if nothing is recorded, and after the future is complete.
        watch: Option<DialWatch>,
    }

    impl<F> PinnedDrop for LinkConnectFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(watch) = this.project().watch.take() {
                watch.cancelled();
            }
        }
    }
}

impl<F, T, E> Future for LinkConnectFuture<F>
where
    F: Future<Output = Result<T, E>>,
    T: 'static,
{
    type Output = Result<LinkIo<T>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(observe_dials(this.watch, || this.inner.poll(cx)));
        let watch = this.watch.take();
        let io = result?;
        let conn = watch.and_then(|watch| watch.conn().or_else(|| conn_of(&io)));
        Poll::Ready(Ok(LinkIo { inner: io, conn }))
    }
}

/// Calls `poll` and stores the dials that begin in it.
fn observe_dials<R>(watch: &mut Option<DialWatch>, poll: impl FnOnce() -> R) -> R {
    let Some(watch) = watch else { return without_context(poll) };
    let (result, begun) = DialRef::collect_begun(|| without_context(poll));
    for dial in begun {
        watch.dials.push(dial.clone());
        with_context(|context| Arc::make_mut(context).dials.push(dial));
    }
    result
}

/// The dials of a connector's future while it runs.
#[derive(Debug)]
struct DialWatch {
    /// The dials that began in it.
    dials: Vec<DialRef>,
    limit: Option<ConnectTimeout>,
}

/// The connect timeout of the channel.
#[derive(Debug)]
struct ConnectTimeout {
    limit: Duration,
    // None if the clock cannot represent it.
    deadline: Option<Instant>,
}

impl DialWatch {
    fn start(limit: Option<Duration>) -> Self {
        let limit = limit.map(|limit| ConnectTimeout { limit, deadline: Instant::now().checked_add(limit) });
        DialWatch { dials: Vec::new(), limit }
    }

    /// Returns the connection that the dials established. Returns `None` if several are open, since it is unknown which
    /// one the connector chose.
    fn conn(&self) -> Option<ConnRef> {
        let mut open = self.dials.iter().filter_map(DialRef::open_conn);
        open.next().filter(|_| open.next().is_none())
    }

    /// Records that the future was dropped before it was complete: as a timeout if the time is up, since the channel
    /// began to wait no earlier than the deadline was computed here.
    fn cancelled(self) {
        if let Some(ConnectTimeout { limit, deadline: Some(deadline) }) = self.limit
            && Instant::now() >= deadline
        {
            self.dials.iter().for_each(|dial| dial.timed_out(limit));
        }
    }
}

/// Returns the connection of a stream that was connected before the connector was called.
fn conn_of(io: &dyn Any) -> Option<ConnRef> {
    fn of<T: Connection + 'static>(io: &dyn Any) -> Option<ConnRef> {
        ConnRef::of(io.downcast_ref::<T>()?)
    }
    let tcp = of::<TokioIo<TracedIo<TcpStream>>>(io).or_else(|| of::<TracedIo<TokioIo<TcpStream>>>(io));
    #[cfg(unix)]
    let unix = || of::<TokioIo<TracedIo<UnixStream>>>(io).or_else(|| of::<TracedIo<TokioIo<UnixStream>>>(io));
    #[cfg(not(unix))]
    let unix = || None;
    tcp.or_else(unix)
}

pin_project! {
    /// A connection of a channel. See [`LinkLayer`].
    #[derive(Debug)]
    pub struct LinkIo<T> {
        #[pin]
        inner: T,
        conn: Option<ConnRef>,
    }
}

impl<T> LinkIo<T> {
    /// Returns a reference to the inner stream.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Stores the connection in the context of the current task.
    fn set_current(conn: &Option<ConnRef>) {
        with_context(|context| {
            let is_known = match (&context.conn, conn) {
                (Some(known), Some(conn)) => known.is_same(conn),
                (None, None) => true,
                _ => false,
            };
            if !is_known {
                Arc::make_mut(context).conn.clone_from(conn);
            }
        });
    }

    /// Writes, after it has stored the connection in the context of the current task.
    fn attributed_write(
        self: Pin<&mut Self>,
        write: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        Self::set_current(this.conn);
        write(this.inner)
    }
}

impl<T: Read> Read for LinkIo<T> {
    delegate_read!(ReadBufCursor<'_>, |this| this.project().inner);
}

impl<T: Write> Write for LinkIo<T> {
    intercept_write!(Self::attributed_write);
    delegate_flush_and_shutdown!(|this| this.project().inner, |this| this.inner);
}

impl<T: Connection> Connection for LinkIo<T> {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}
