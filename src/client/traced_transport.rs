//! The layers below the user's own, put together: decoding over tracing over the pool.

use super::{
    Body, ResponseBody,
    decompress::{self, Asks},
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
    /// Whether gzip is asked for, and undone.
    pub(super) compression: bool,
}

impl TracedTransport {
    /// Begins a request. Its handle answers for it from now on.
    pub(super) fn send(
        &self,
        mut request: Request<Body>,
    ) -> (RequestHandle, impl Future<Output = Result<Response<ResponseBody>, BoxError>> + Send + use<>) {
        let asks = Asks::add(self.compression, &mut request);
        let sent = self.tracing.trace(request, |request| self.pool.clone().send(request));
        (sent.handle(), TransportFuture { sent, asks })
    }
}

pin_project! {
    /// The response to come, whose body will be decoded.
    struct TransportFuture<F> {
        #[pin]
        sent: F,
        asks: Asks,
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
        Poll::Ready(Ok(decompress::decoded(response, *this.asks).map(ResponseBody::new)))
    }
}

/// For the layers of the user's own.
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
