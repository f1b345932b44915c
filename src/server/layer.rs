use super::{ConnInfo, TraceServer, TraceServerFuture, future::InFlight, url};
use crate::{
    request::{Boxed, MapBody, TraceBody, Typed},
    sink::{ConnRef, RequestHead, TraceSink},
};
use http::{Extensions, Request};
use http_body::Body;
use tower_layer::Layer;

/// Records the requests that a service answers.
///
/// The service is one of tower or of hyper; it is given a [`TraceBody<B>`](crate::request::TraceBody) or what
/// [`boxed`](Self::boxed) makes of that, and answers with a body that becomes a [`ResponseBody`](super::ResponseBody).
///
/// # Its connection
///
/// A request is linked to the connection that it came over, and by it to its tunnel:
///
/// | server | how |
/// |---|---|
/// | a loop around `accept` | a service for each connection, made with [`conn`](Self::conn) |
/// | axum (feature `axum`) | `axum::serve(listener, router.into_make_service_with_connect_info::<ConnInfo>())` |
/// | tonic (feature `tonic-server`) | by itself, given [`incoming`](super::TraceListener::incoming) |
/// | any other | a [`ConnInfo`] or a [`ConnRef`](crate::ConnRef) in the request's extensions |
///
/// Without any of it the request is recorded all the same, and refers to no connection.
///
/// HTTP/1 does not say whether TLS is spoken below it: the scheme of a recorded URL is `https` where the connection is
/// known to have been through a `TraceTlsAcceptor`, and else `http`.
///
/// Put it outside of what answers by itself, such as a limit or a time limit: what does not come through it is not
/// seen.
#[derive(Clone, Debug)]
pub struct TraceServerLayer<M = Typed> {
    sink: TraceSink,
    conn: Option<ConnRef>,
    mapper: M,
}

impl TraceServerLayer {
    /// Records into `sink`. The inner service must take [`TraceBody<B>`](crate::request::TraceBody).
    pub fn new(sink: &TraceSink) -> Self {
        TraceServerLayer { sink: sink.clone(), conn: None, mapper: Typed }
    }
}

impl<M> TraceServerLayer<M> {
    /// For an inner service that takes a boxed body: `box_body` makes it, such as `|body| BoxBody::new(body)`.
    pub fn boxed<F>(self, box_body: F) -> TraceServerLayer<Boxed<F>> {
        let TraceServerLayer { sink, conn, .. } = self;
        TraceServerLayer { sink, conn, mapper: Boxed(box_body) }
    }

    /// Says that all requests come over this connection: what [`TracedIo::conn_ref`](crate::connect::TracedIo::conn_ref)
    /// gives.
    pub fn conn(mut self, conn: Option<&ConnRef>) -> Self {
        self.conn = conn.cloned();
        self
    }

    /// Has the request answered by `serve`, and records that.
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
            uri: &url::absolute(request.uri(), request.headers(), is_secure),
            version: request.version(),
            headers: request.headers(),
            handle: None,
            has_body,
            accepted: true,
        });
        recorder.received_over(conn);
        let watch = has_body.then(|| Box::new(recorder.watch()));
        let mut in_flight = InFlight::new(recorder, request.method(), request.version());
        let request = request.map(|body| self.mapper.map(TraceBody::new(body, watch)));
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

/// Whoever accepted the connection may have put it there.
fn known_conn(extensions: &Extensions) -> Option<&ConnRef> {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::ConnectInfo(info)) = extensions.get::<axum::extract::ConnectInfo<ConnInfo>>() {
        return info.conn_ref();
    }
    let info = extensions.get::<ConnInfo>().and_then(ConnInfo::conn_ref);
    info.or_else(|| extensions.get::<ConnRef>())
}
