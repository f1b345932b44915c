use super::{
    TraceRequest, TraceRequestFuture,
    body::TraceBody,
    future::Running,
    mapper::{Boxed, MapBody, Typed},
};
use crate::sink::{RequestHandle, RequestHead, RequestRecorder, TraceSink};
use http::Request;
use http_body::Body;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use tower_layer::Layer;

/// Records the requests of any `Service<http::Request<B>>`. See the [module](super).
#[derive(Clone, Debug)]
pub struct TraceRequestLayer<M = Typed> {
    sink: TraceSink,
    capture: bool,
    informational: bool,
    mapper: M,
}

impl TraceRequestLayer {
    /// Records into `sink`. The inner service must take [`TraceBody<B>`](super::TraceBody).
    pub fn new(sink: &TraceSink) -> Self {
        TraceRequestLayer { sink: sink.clone(), capture: false, informational: false, mapper: Typed }
    }
}

impl<M> TraceRequestLayer<M> {
    /// For an inner service that takes a boxed body: `box_body` makes it, such as `|body| BoxBody::new(body)`.
    pub fn boxed<F>(self, box_body: F) -> TraceRequestLayer<Boxed<F>> {
        let TraceRequestLayer { sink, capture, informational, .. } = self;
        TraceRequestLayer { sink, capture, informational, mapper: Boxed(box_body) }
    }

    /// Has hyper-util's client report the connection as soon as it has chosen one: a request that is dropped
    /// or times out keeps its link, and the time of the choice and of the first byte are known. It takes the
    /// place of a `capture_connection` that the request carries already, so it is off by default.
    pub fn capture_connection(mut self, on: bool) -> Self {
        self.capture = on;
        self
    }

    /// Records interim responses (1xx) over HTTP/1. It takes the place of an `on_informational` callback that
    /// the request carries already, so it is off by default.
    pub fn informational(mut self, on: bool) -> Self {
        self.informational = on;
        self
    }

    /// Makes a request by `send`, and records it.
    #[inline]
    pub(crate) fn trace<B, F>(
        &self,
        request: Request<B>,
        send: impl FnOnce(Request<M::Body>) -> F,
    ) -> TraceRequestFuture<F>
    where
        M: MapBody<B>,
        B: Body,
    {
        if self.sink.records_requests() {
            return self.traced(request, send);
        }
        // What is large is moved from here to there, and nothing else refers to it on its way.
        let request = request.map(|body| self.mapper.map(TraceBody::new(body, None)));
        TraceRequestFuture::new(send(request), None)
    }

    #[inline(never)]
    fn traced<B, F>(
        &self,
        mut request: Request<B>,
        send: impl FnOnce(Request<M::Body>) -> F,
    ) -> TraceRequestFuture<F>
    where
        M: MapBody<B>,
        B: Body,
    {
        let has_body = !request.body().is_end_stream();
        let mut recorder = self.sink.request(&RequestHead {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            handle: request.extensions().get::<RequestHandle>(),
            has_body,
            accepted: false,
        });
        let handle = request.extensions().get::<RequestHandle>().cloned();
        let capture = self.listen(&mut request, &recorder);
        let watch = has_body.then(|| Box::new(recorder.watch()));
        let request = request.map(|body| self.mapper.map(TraceBody::new(body, watch)));
        let scope = recorder.scope();
        let inner = send(request);
        drop(scope);
        TraceRequestFuture::new(inner, Some(Running { recorder, handle, capture }))
    }

    /// Has the request report what only the client knows.
    fn listen<B>(&self, request: &mut Request<B>, recorder: &RequestRecorder) -> Option<CaptureConnection> {
        if let (true, Some(record)) = (self.informational, recorder.request().cloned()) {
            hyper::ext::on_informational(request, move |response| record.informational(response.status()));
        }
        self.capture.then(|| capture_connection(request))
    }
}

impl<S, M: Clone> Layer<S> for TraceRequestLayer<M> {
    type Service = TraceRequest<S, M>;

    fn layer(&self, inner: S) -> TraceRequest<S, M> {
        TraceRequest::new(inner, self.clone())
    }
}
