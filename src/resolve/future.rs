use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use super::mark::Resolving;

pin_project! {
    /// Future of [`TraceResolve`](super::TraceResolve). Dropped before it is ready, resolving ended then.
    pub struct ResponseFuture<F> {
        #[pin]
        inner: F,
        resolving: Option<Resolving>,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn new(inner: F, resolving: Resolving) -> Self {
        Self { inner, resolving: Some(resolving) }
    }
}

impl<F: Future> Future for ResponseFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let output = match this.resolving {
            Some(resolving) => ready!(resolving.dial().scope(|| this.inner.poll(cx))),
            None => ready!(this.inner.poll(cx)),
        };
        *this.resolving = None;
        Poll::Ready(output)
    }
}

impl<F: fmt::Debug> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("inner", &self.inner).finish_non_exhaustive()
    }
}
