//! A middleware that records requests up to the head of their response, and leaves the body of the response as it is.

use super::{
    TraceRequest, TraceRequestFuture, TraceRequestLayer, TraceResponseBody,
    mapper::{MapBody, Typed},
};
use http::{Request, Response};
use http_body::Body;
use hyper_util::client::legacy::{self, connect::Connect};
use pin_project_lite::pin_project;
use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower_layer::Layer;
use tower_service::Service;

impl<M> TraceRequestLayer<M> {
    /// Returns a layer that leaves the body of responses as it is, for a client whose type of response is fixed, such
    /// as `Response<Incoming>`.
    ///
    /// The record of a request ends with the head of its response: as
    /// [`Unobserved`](crate::record::EndReason::Unobserved), without an end time, or as
    /// [`Closed`](crate::record::EndReason::Closed) if the response has no body. What is lost:
    ///
    /// - how many bytes of the body came, and when; `RespContentLen` is 0
    /// - trailers, among them the status of gRPC unless it comes with the head
    /// - errors while the body is read, a body that is cut off, and that it was not read to its end; what the
    ///   connection suffered is on its own record
    ///
    /// Where all of that matters and the client takes a connector, use `wire::TraceWireLayer` around the connector in
    /// place of this layer. The two do not add to each other: requests that a layer records are not read from the wire.
    ///
    /// ```
    /// use hyper::{Request, Response, body::Incoming};
    /// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    /// use nettrace::{TraceSink, request::TraceRequestLayer};
    /// use tower_layer::Layer;
    ///
    /// type Body = http_body_util::Full<bytes::Bytes>;
    ///
    /// let sink = TraceSink::new();
    /// let client = Client::builder(TokioExecutor::new()).build_http();
    /// let client = TraceRequestLayer::new(&sink).keep_response_body().layer(client);
    /// # fn is_service<S: tower_service::Service<Request<Body>, Response = Response<Incoming>>>(_: S) {}
    /// # is_service(client);
    /// ```
    pub fn keep_response_body(self) -> TraceHeadLayer<M> {
        TraceHeadLayer { layer: self }
    }
}

/// A layer that records requests up to the head of their response. See
/// [`TraceRequestLayer::keep_response_body`].
#[derive(Clone, Debug)]
pub struct TraceHeadLayer<M = Typed> {
    layer: TraceRequestLayer<M>,
}

impl<S, M: Clone> Layer<S> for TraceHeadLayer<M> {
    type Service = TraceHead<S, M>;

    fn layer(&self, inner: S) -> TraceHead<S, M> {
        TraceHead { inner: self.layer.layer(inner) }
    }
}

/// A service that records its requests up to the head of their response. See
/// [`TraceRequestLayer::keep_response_body`].
#[derive(Clone, Debug)]
pub struct TraceHead<S, M = Typed> {
    inner: TraceRequest<S, M>,
}

impl<S, M> TraceHead<S, M> {
    /// Returns a reference to the service itself.
    pub fn get_ref(&self) -> &S {
        self.inner.get_ref()
    }

    /// Returns a mutable reference to the service itself. Requests made through it directly are not recorded.
    pub fn get_mut(&mut self) -> &mut S {
        self.inner.get_mut()
    }

    /// Returns the service itself.
    pub fn into_inner(self) -> S {
        self.inner.into_inner()
    }
}

/// The method of hyper-util's client that needs no `&mut self`.
impl<C, ReqBody, M> TraceHead<legacy::Client<C, ReqBody>, M>
where
    C: Connect + Clone + Send + Sync + 'static,
    ReqBody: Body + Send + Unpin + 'static,
    ReqBody::Data: Send,
    ReqBody::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Makes a request, and records it. See [`legacy::Client::request`].
    pub fn request<B>(&self, request: Request<B>) -> TraceHeadFuture<legacy::ResponseFuture>
    where
        M: MapBody<B, Body = ReqBody>,
        B: Body,
    {
        TraceHeadFuture { inner: self.inner.request(request) }
    }
}

impl<S, M, B, R> Service<Request<B>> for TraceHead<S, M>
where
    M: MapBody<B>,
    S: Service<Request<M::Body>, Response = Response<R>>,
    S::Error: 'static,
    B: Body,
    R: Body,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = TraceHeadFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        TraceHeadFuture { inner: self.inner.call(request) }
    }
}

pin_project! {
    /// The future of [`TraceHead`].
    #[derive(Debug)]
    pub struct TraceHeadFuture<F> {
        #[pin]
        inner: TraceRequestFuture<F>,
    }
}

impl<F, R, E> Future for TraceHeadFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
    E: 'static,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().inner.poll(cx))?;
        Poll::Ready(Ok(response.map(TraceResponseBody::into_inner)))
    }
}
