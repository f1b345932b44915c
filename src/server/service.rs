//! The recorded service, for tower's and hyper's traits.

use super::{ResponseBody, TraceServerFuture, TraceServerLayer};
use crate::request::{MapBody, Typed};
use http::{Request, Response};
use http_body::Body;
use std::task::{Context, Poll};
use tower_service::Service;

/// A service whose requests are recorded. Created by [`TraceServerLayer`](super::TraceServerLayer).
#[derive(Clone, Debug)]
pub struct TraceServer<S, M = Typed> {
    inner: S,
    layer: TraceServerLayer<M>,
}

impl<S, M> TraceServer<S, M> {
    pub(super) fn new(inner: S, layer: TraceServerLayer<M>) -> Self {
        TraceServer { inner, layer }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service. Requests made with it directly are not recorded.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, M, B, R> Service<Request<B>> for TraceServer<S, M>
where
    M: MapBody<B>,
    S: Service<Request<M::Body>, Response = Response<R>>,
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

impl<S, M, B, R> hyper::service::Service<Request<B>> for TraceServer<S, M>
where
    M: MapBody<B>,
    S: hyper::service::Service<Request<M::Body>, Response = Response<R>>,
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
