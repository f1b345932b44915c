//! The layer around a connector whose connections are read.

use super::{
    WireIo,
    context::{Side, WireContext},
    reader::WireReader,
};
use crate::sink::{ConnRef, TraceSink};
use http::{Uri, uri::Scheme};
use hyper_util::client::legacy::connect::Connection;
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::atomic::AtomicBool,
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
        let conn = ConnRef::of(&io).filter(|conn| conn.has_unrecorded_requests(this.sink));
        let context = |conn| WireContext {
            sink: this.sink.clone(),
            conn,
            side: Side::Client,
            is_secure: this.uri.scheme() == Some(&Scheme::HTTPS),
            dialed: this.uri.authority().cloned(),
            has_no_layer: AtomicBool::new(false),
        };
        Poll::Ready(Ok(WireIo::new(io, conn.map(|conn| WireReader::new(context(conn))))))
    }
}
