//! The innermost part of the preset: decompression around tracing around the pool.
//!
//! Put together as one type instead of three layers, so that requests need no boxed future unless the user adds layers.

use super::{
    Body, ResponseBody,
    decompress::{self, GzipRequest},
    pool::{LeasedBody, Pool},
};
use crate::{
    error::BoxError,
    request::{TraceRequestLayer, TraceResponseBody},
    sink::RequestHandle,
};
use futures_util::future::BoxFuture;
use http::{Request, Response};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tower_service::Service;

#[derive(Clone)]
pub(super) struct TracedTransport {
    pub(super) tracing: TraceRequestLayer,
    pub(super) pool: Arc<Pool>,
    /// Whether gzip is requested and decoded.
    pub(super) compression: bool,
}

impl TracedTransport {
    /// Begins a request. Returns its handle, and the future of its response.
    pub(super) fn send(
        &self,
        mut request: Request<Body>,
    ) -> (RequestHandle, impl Future<Output = Result<Response<ResponseBody>, BoxError>> + Send + use<>) {
        let gzip = GzipRequest::add(self.compression, &mut request);
        let sent = self.tracing.trace(request, |request| self.pool.clone().send(request));
        (sent.handle(), TransportFuture { sent, gzip })
    }
}

pin_project! {
    /// The future of a response, whose body will be decoded.
    struct TransportFuture<F> {
        #[pin]
        sent: F,
        gzip: GzipRequest,
    }
}

impl<F> Future for TransportFuture<F>
where
    F: Future<Output = Result<Response<TraceResponseBody<LeasedBody>>, BoxError>>,
{
    type Output = Result<Response<ResponseBody>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.sent.poll(cx))?;
        Poll::Ready(Ok(decompress::decoded(response, *this.gzip).map(ResponseBody::new)))
    }
}

/// The service that layers of the user go around.
impl Service<Request<Body>> for TracedTransport {
    type Response = Response<ResponseBody>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<ResponseBody>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.send(request).1)
    }
}
