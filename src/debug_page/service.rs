//! The page as a service of tower and hyper.

use super::{DebugPage, DebugPageBody, DebugPageFuture};
use http::{Request, Response};
use std::{
    convert::Infallible,
    task::{Context, Poll},
};
use tower_service::Service;

impl<B> Service<Request<B>> for DebugPage {
    type Response = Response<DebugPageBody>;
    type Error = Infallible;
    type Future = DebugPageFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> DebugPageFuture {
        self.answer(request.method(), request.uri(), request.headers())
    }
}

impl<B> hyper::service::Service<Request<B>> for DebugPage {
    type Response = Response<DebugPageBody>;
    type Error = Infallible;
    type Future = DebugPageFuture;

    fn call(&self, request: Request<B>) -> DebugPageFuture {
        self.answer(request.method(), request.uri(), request.headers())
    }
}
