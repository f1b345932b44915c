//! A layer for the requests of a reqwest client.

use super::future::{Running, TraceClientFuture};
use crate::{
    request::TraceBody,
    sink::{RequestHandle, RequestHead, RequestRecorder, TraceSink},
};
use ::reqwest::{Body, Error, Request, Response};
use http::Uri;
use http_body::Body as _;
use std::task::{Context, Poll};
use tower_layer::Layer;
use tower_service::Service;

/// Records the requests of a reqwest client, or of any service around one. See the [module](super).
#[derive(Clone, Debug)]
pub struct TraceClientLayer {
    sink: TraceSink,
}

impl TraceClientLayer {
    /// Records into `sink`.
    pub fn new(sink: &TraceSink) -> Self {
        TraceClientLayer { sink: sink.clone() }
    }

    /// Makes a request by `send`, and records it.
    pub(super) fn trace<F>(
        &self,
        mut request: Request,
        send: impl FnOnce(Request) -> F,
    ) -> TraceClientFuture<F> {
        if !self.sink.records_requests() {
            return TraceClientFuture::new(send(request), RequestHandle::unbound(), None);
        }
        let uri: Uri = request.url().as_str().parse().unwrap_or_default();
        let has_body = request.body().is_some_and(|body| !body.is_end_stream());
        let handle = RequestHandle::new();
        let mut recorder = self.sink.request(&RequestHead {
            method: request.method(),
            uri: &uri,
            version: request.version(),
            headers: request.headers(),
            handle: Some(&handle),
            has_body,
        });
        let piece = watch_body(request.body_mut(), &recorder);
        let scope = recorder.scope();
        let inner = send(request);
        drop(scope);
        TraceClientFuture::new(inner, handle, Some(Running { recorder, piece, sink: self.sink.clone() }))
    }
}

/// A stream is counted as it goes. A body in one piece stays as it is, so that reqwest can send it again; its length
/// is given back.
fn watch_body(body: &mut Option<Body>, recorder: &RequestRecorder) -> Option<u64> {
    if let Some(bytes) = body.as_ref()?.as_bytes() {
        return Some(bytes.len() as u64);
    }
    let watch = Some(Box::new(recorder.watch()));
    *body = body.take().map(|body| Body::wrap(TraceBody::new(body, watch)));
    None
}

impl<S> Layer<S> for TraceClientLayer {
    type Service = TraceClient<S>;

    fn layer(&self, inner: S) -> TraceClient<S> {
        TraceClient { inner, layer: self.clone() }
    }
}

/// A service whose requests are recorded. See [`TraceClientLayer`].
#[derive(Clone, Debug)]
pub struct TraceClient<S> {
    inner: S,
    layer: TraceClientLayer,
}

impl<S> TraceClient<S> {
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
}

impl<S> Service<Request> for TraceClient<S>
where
    S: Service<Request, Response = Response, Error = Error>,
{
    type Response = Response;
    type Error = Error;
    type Future = TraceClientFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.layer.trace(request, |request| self.inner.call(request))
    }
}
