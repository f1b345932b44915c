use super::{
    TraceRequestFuture, TraceResponseBody,
    body::TraceBody,
    layer::Options,
    mapper::{MapBody, Typed},
};
use crate::sink::{RequestHandle, RequestHead, RequestRecorder};
use http::{Request, Response};
use http_body::Body;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use std::task::{Context, Poll};
use tower_service::Service;

/// A service whose requests are recorded. See [`TraceRequestLayer`](super::TraceRequestLayer).
#[derive(Clone, Debug)]
pub struct TraceRequest<S, M = Typed> {
    inner: S,
    options: Options,
    mapper: M,
}

impl<S, M> TraceRequest<S, M> {
    pub(super) fn new(inner: S, options: Options, mapper: M) -> Self {
        TraceRequest { inner, options, mapper }
    }

    /// The service itself.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service itself. Requests made through it directly are not recorded.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Gives the service back.
    pub fn into_inner(self) -> S {
        self.inner
    }

    /// Has the request report what only the client knows.
    fn listen<B>(&self, request: &mut Request<B>, recorder: &RequestRecorder) -> Option<CaptureConnection> {
        if let (true, Some(record)) = (self.options.informational, recorder.request().cloned()) {
            hyper::ext::on_informational(request, move |response| record.informational(response.status()));
        }
        self.options.capture.then(|| capture_connection(request))
    }
}

impl<S, M, B, R> Service<Request<B>> for TraceRequest<S, M>
where
    M: MapBody<B>,
    S: Service<Request<M::Body>, Response = Response<R>>,
    S::Error: 'static,
    B: Body,
    R: Body,
{
    type Response = Response<TraceResponseBody<R>>;
    type Error = S::Error;
    type Future = TraceRequestFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let has_body = !request.body().is_end_stream();
        let mut recorder = self.options.sink.request(RequestHead {
            method: request.method(),
            uri: request.uri(),
            version: request.version(),
            headers: request.headers(),
            handle: request.extensions().get::<RequestHandle>(),
            has_body,
        });
        if !recorder.is_on() {
            let request = request.map(|body| self.mapper.map(TraceBody::new(body, None)));
            return TraceRequestFuture::new(self.inner.call(request), recorder, None, None);
        }
        let handle = request.extensions().get::<RequestHandle>().cloned();
        let capture = self.listen(&mut request, &recorder);
        let watch = has_body.then(|| Box::new(recorder.watch()));
        let request = request.map(|body| self.mapper.map(TraceBody::new(body, watch)));
        let inner = recorder.scope(|| self.inner.call(request));
        TraceRequestFuture::new(inner, recorder, handle, capture)
    }
}
