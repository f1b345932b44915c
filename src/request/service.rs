use super::{
    TraceRequestFuture, TraceRequestLayer, TraceResponseBody,
    mapper::{MapBody, Typed},
};
use http::{Request, Response, Uri};
use http_body::Body;
use hyper_util::client::legacy::{self, connect::Connect};
use std::{
    error::Error,
    task::{Context, Poll},
};
use tower_service::Service;

/// A service that records its requests. See [`TraceRequestLayer`](super::TraceRequestLayer).
#[derive(Clone, Debug)]
pub struct TraceRequest<S, M = Typed> {
    inner: S,
    layer: TraceRequestLayer<M>,
}

impl<S, M> TraceRequest<S, M> {
    pub(super) fn new(inner: S, layer: TraceRequestLayer<M>) -> Self {
        TraceRequest { inner, layer }
    }

    /// Returns a reference to the service itself.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the service itself. Requests made through it directly are not recorded.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the service itself.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

/// The methods of hyper-util's client, which need no `&mut self`.
impl<C, ReqBody, M> TraceRequest<legacy::Client<C, ReqBody>, M>
where
    C: Connect + Clone + Send + Sync + 'static,
    ReqBody: Body + Send + Unpin + 'static,
    ReqBody::Data: Send,
    ReqBody::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Makes a GET request with an empty body, and records it. See [`legacy::Client::get`].
    pub fn get<B>(&self, uri: Uri) -> TraceRequestFuture<legacy::ResponseFuture>
    where
        M: MapBody<B, Body = ReqBody>,
        B: Body + Default,
    {
        let mut request = Request::new(B::default());
        *request.uri_mut() = uri;
        self.request(request)
    }

    /// Makes a request, and records it. See [`legacy::Client::request`].
    pub fn request<B>(&self, request: Request<B>) -> TraceRequestFuture<legacy::ResponseFuture>
    where
        M: MapBody<B, Body = ReqBody>,
        B: Body,
    {
        self.layer.trace(request, |request| self.inner.request(request))
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

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.layer.trace(request, |request| self.inner.call(request))
    }
}
