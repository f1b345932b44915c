//! The layer around a connector whose connections are read.

use super::{
    WireIo,
    context::{Side, WireContext},
    reader::WireReader,
};
#[cfg(feature = "relay")]
use crate::connect::TracedIo;
use crate::sink::{ConnRef, TraceSink};
use http::{
    Uri,
    uri::{Authority, Scheme},
};
use hyper_util::client::legacy::connect::Connection;
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower_layer::Layer;
use tower_service::Service;

/// A layer that records the HTTP requests that pass over the connections of a connector.
///
/// It goes around a traced connector, and around TLS: what it reads must be HTTP. A connection that is not traced is
/// left alone, and so is one that was dialed for a request of a
/// [`TraceRequestLayer`](crate::request::TraceRequestLayer), which records its requests itself.
///
/// ```
/// use hyper_util::{client::legacy::{Client, connect::HttpConnector}, rt::TokioExecutor};
/// use nettrace::{TraceSink, connect::TraceConnectLayer, wire::TraceWireLayer};
/// use tower_layer::Layer;
///
/// let sink = TraceSink::new();
/// let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
/// let connector = TraceWireLayer::new(&sink).layer(connector);
/// let client: Client<_, http_body_util::Empty<bytes::Bytes>> =
///     Client::builder(TokioExecutor::new()).build(connector);
/// ```
#[derive(Clone, Debug)]
pub struct TraceWireLayer {
    sink: TraceSink,
}

impl TraceWireLayer {
    /// Creates a layer that records into `sink`, which is that of the traced connector.
    pub fn new(sink: &TraceSink) -> Self {
        TraceWireLayer { sink: sink.clone() }
    }
}

impl<C> Layer<C> for TraceWireLayer {
    type Service = TraceWire<C>;

    fn layer(&self, inner: C) -> TraceWire<C> {
        TraceWire { inner, sink: self.sink.clone() }
    }
}

/// A connector whose connections are read; see [`TraceWireLayer`].
#[derive(Clone, Debug)]
pub struct TraceWire<C> {
    inner: C,
    sink: TraceSink,
}

impl<C> Service<Uri> for TraceWire<C>
where
    C: Service<Uri>,
    C::Response: Connection,
{
    type Response = WireIo<C::Response>;
    type Error = C::Error;
    type Future = TraceWireFuture<C::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        TraceWireFuture { inner: self.inner.call(uri.clone()), sink: self.sink.clone(), uri }
    }
}

pin_project! {
    /// The future of [`TraceWire`].
    #[derive(Debug)]
    pub struct TraceWireFuture<F> {
        #[pin]
        inner: F,
        sink: TraceSink,
        uri: Uri,
    }
}

impl<F, T, E> Future for TraceWireFuture<F>
where
    F: Future<Output = Result<T, E>>,
    T: Connection,
{
    type Output = Result<WireIo<T>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let io = ready!(this.inner.poll(cx))?;
        let conn = ConnRef::of(&io);
        let is_secure = this.uri.scheme() == Some(&Scheme::HTTPS);
        let reader = conn.and_then(|conn| dialed(this.sink, conn, is_secure, this.uri.authority()));
        Poll::Ready(Ok(WireIo::new(io, reader)))
    }
}

/// Returns a reader for a connection that this side has made, if its requests are to be recorded.
fn dialed(
    sink: &TraceSink,
    conn: ConnRef,
    is_secure: bool,
    authority: Option<&Authority>,
) -> Option<WireReader> {
    conn.has_unrecorded_requests(sink).then(|| {
        WireReader::new(WireContext {
            sink: sink.clone(),
            conn,
            side: Side::Client,
            is_secure,
            dialed: authority.cloned(),
        })
    })
}

#[cfg(feature = "relay")]
impl<T> WireIo<TracedIo<T>> {
    /// Wraps a connection that this side has made. Its requests are recorded into `sink`, if one is given.
    pub(crate) fn dialed(sink: Option<&TraceSink>, io: TracedIo<T>) -> Self {
        let conn = sink.zip(io.conn_ref().cloned());
        let reader = conn.and_then(|(sink, conn)| dialed(sink, conn, false, None));
        WireIo::new(io, reader)
    }
}
