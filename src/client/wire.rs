//! The layers below the user's own, put together: decoding over tracing over the pool.

use super::{
    Body, ResponseBody,
    decompress::{self, Asks},
    pool::Pool,
};
use crate::{request::TraceRequestLayer, sink::RequestHandle};
use futures_util::future::BoxFuture;
use http::{Request, Response};
use std::{
    error::Error,
    sync::Arc,
    task::{Context, Poll},
};
use tower_service::Service;

type BoxError = Box<dyn Error + Send + Sync>;

#[derive(Clone)]
pub(super) struct Wire {
    pub(super) tracing: TraceRequestLayer,
    pub(super) pool: Arc<Pool>,
    /// Whether gzip is asked for, and undone.
    pub(super) compression: bool,
}

impl Wire {
    /// Begins a request. Its handle answers for it from now on.
    pub(super) fn send(
        &self,
        mut request: Request<Body>,
    ) -> (RequestHandle, impl Future<Output = Result<Response<ResponseBody>, BoxError>> + Send + use<>) {
        let asks = Asks::add(self.compression, &mut request);
        let sent = self.tracing.trace(request, |request| self.pool.clone().send(request));
        let handle = sent.handle();
        (handle, async move { Ok(decompress::decoded(sent.await?, asks).map(ResponseBody::new)) })
    }
}

/// For the layers of the user's own.
impl Service<Request<Body>> for Wire {
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
