//! The layer that records requests, and how it finds the connection of each.

use super::{ConnInfo, TraceServer, TraceServerFuture, future::InFlight};
use crate::{
    absolute_url::absolute,
    request::{Boxed, MapBody, TraceBody, Typed},
    sink::{ConnRef, RequestHead, TraceSink},
};
use http::{Extensions, HeaderMap, Request, header::HOST};
use http_body::Body;
use tower_layer::Layer;

/// A layer that records the requests that a service answers.
///
/// The service implements tower's or hyper's `Service`. It receives a [`TraceBody<B>`](crate::request::TraceBody), or
/// what [`boxed`](Self::boxed) makes of it, and responds with a body that is wrapped in a
/// [`ResponseBody`](super::ResponseBody).
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::{Empty, Full};
/// use nettrace::{TraceSink, request::TraceBody, server::TraceServerLayer};
/// use std::convert::Infallible;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Infallible> {
/// let sink = TraceSink::new();
/// let hello = service_fn(async |_: Request<TraceBody<Empty<Bytes>>>| {
///     Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("hello")))
/// });
/// let service = TraceServerLayer::new(&sink).layer(hello);
///
/// let response = service.oneshot(Request::new(Empty::new())).await?;
/// # drop(response);
/// assert_eq!(sink.snapshot("").http_requests[0].resp_status_code, 200);
/// # Ok(()) }
/// ```
///
/// # Connection of a request
///
/// A request is linked to the connection that it arrived on, and through it to the TLS tunnel:
///
/// | server | how |
/// |---|---|
/// | a loop around `accept` | one service per connection, with [`conn`](Self::conn) |
/// | axum (feature `axum`) | `axum::serve(listener, router.into_make_service_with_connect_info::<ConnInfo>())` |
/// | tonic (feature `tonic-server`) | automatic with [`incoming`](super::TraceListener::incoming) |
/// | any other | a [`ConnInfo`] or a [`ConnRef`](crate::ConnRef) in the request's extensions |
///
/// Without any of these the request is recorded without a link.
///
/// HTTP/1 requests do not contain the scheme. A recorded URL has `https` if the connection went through a
/// `TraceTlsAcceptor`, else `http`.
///
/// Apply it outside of middleware that answers requests itself, such as concurrency limits and timeouts. Requests that
/// do not reach the layer are not recorded.
#[derive(Clone, Debug)]
pub struct TraceServerLayer<M = Typed> {
    sink: TraceSink,
    conn: Option<ConnRef>,
    mapper: M,
}

impl TraceServerLayer {
    /// Creates a layer that records into `sink`. The inner service must accept
    /// [`TraceBody<B>`](crate::request::TraceBody).
    pub fn new(sink: &TraceSink) -> Self {
        TraceServerLayer { sink: sink.clone(), conn: None, mapper: Typed }
    }
}

impl<M> TraceServerLayer<M> {
    /// Boxes the body for an inner service that expects a boxed one. `box_body` makes it, such as `|body|
    /// BoxBody::new(body)`.
    pub fn boxed<F>(self, box_body: F) -> TraceServerLayer<Boxed<F>> {
        let TraceServerLayer { sink, conn, .. } = self;
        TraceServerLayer { sink, conn, mapper: Boxed(box_body) }
    }

    /// Sets the connection of all requests, as returned by [`TracedIo::conn_ref`](crate::connect::TracedIo::conn_ref).
    pub fn conn(mut self, conn: Option<&ConnRef>) -> Self {
        self.conn = conn.cloned();
        self
    }

    /// Calls `serve` with the request and records it.
    pub(super) fn trace<B, F>(
        &self,
        #[cfg_attr(not(feature = "tonic-server"), expect(unused_mut, reason = "tonic alone needs it"))]
        mut request: Request<B>,
        serve: impl FnOnce(Request<M::Body>) -> F,
    ) -> TraceServerFuture<F>
    where
        M: MapBody<B>,
        B: Body,
    {
        #[cfg(feature = "tonic-server")]
        super::tonic::restore(request.extensions_mut());
        if self.sink.records_requests() {
            return self.traced(request, serve);
        }
        let request = request.map(|body| self.mapper.map(TraceBody::new(body, None)));
        TraceServerFuture::new(serve(request), None)
    }

    #[inline(never)]
    fn traced<B, F>(
        &self,
        request: Request<B>,
        serve: impl FnOnce(Request<M::Body>) -> F,
    ) -> TraceServerFuture<F>
    where
        M: MapBody<B>,
        B: Body,
    {
        let conn = self.conn.as_ref().or_else(|| known_conn(request.extensions()));
        let has_body = !request.body().is_end_stream();
        let is_secure = conn.is_some_and(ConnRef::is_secure);
        let recorder = self.sink.request(&RequestHead {
            method: request.method(),
            uri: &absolute(request.uri(), || host(request.headers()), is_secure),
            version: request.version(),
            headers: request.headers(),
            handle: None,
            has_body,
            accepted: true,
            wire: None,
        });
        recorder.received_over(conn);
        let body_recorder = has_body.then(|| Box::new(recorder.body_recorder()));
        let mut in_flight = InFlight::new(recorder, request.method(), request.version());
        let request = request.map(|body| self.mapper.map(TraceBody::new(body, body_recorder)));
        let inner = in_flight.guarded(|| serve(request));
        TraceServerFuture::new(inner, Some(in_flight))
    }
}

impl<S, M: Clone> Layer<S> for TraceServerLayer<M> {
    type Service = TraceServer<S, M>;

    fn layer(&self, inner: S) -> TraceServer<S, M> {
        TraceServer::new(inner, self.clone())
    }
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(HOST)?.to_str().ok()
}

/// Returns the connection that the server put into the extensions.
fn known_conn(extensions: &Extensions) -> Option<&ConnRef> {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::ConnectInfo(info)) = extensions.get::<axum::extract::ConnectInfo<ConnInfo>>() {
        return info.conn_ref();
    }
    let info = extensions.get::<ConnInfo>().and_then(ConnInfo::conn_ref);
    info.or_else(|| extensions.get::<ConnRef>())
}
