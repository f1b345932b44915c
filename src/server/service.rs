use super::{ResponseBody, TraceServerFuture, TraceServerLayer};
use crate::request::TraceBody;
use http::{Request, Response};
use http_body::Body;
use std::task::{Context, Poll};
use tower_service::Service;

/// A service whose requests are recorded. See [`TraceServerLayer`](super::TraceServerLayer).
#[derive(Clone, Debug)]
pub struct TraceServer<S> {
    inner: S,
    layer: TraceServerLayer,
}

impl<S> TraceServer<S> {
    pub(super) fn new(inner: S, layer: TraceServerLayer) -> Self {
        TraceServer { inner, layer }
    }

    /// The service itself.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service itself. What is asked of it directly is not recorded.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Gives the service back.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, R> Service<Request<B>> for TraceServer<S>
where
    S: Service<Request<TraceBody<B>>, Response = Response<R>>,
    S::Error: 'static,
    B: Body,
    R: Body,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = TraceServerFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.layer.trace(request, |request| self.inner.call(request))
    }
}

impl<S, B, R> hyper::service::Service<Request<B>> for TraceServer<S>
where
    S: hyper::service::Service<Request<TraceBody<B>>, Response = Response<R>>,
    S::Error: 'static,
    B: Body,
    R: Body,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = TraceServerFuture<S::Future>;

    #[inline]
    fn call(&self, request: Request<B>) -> Self::Future {
        self.layer.trace(request, |request| self.inner.call(request))
    }
}
