use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use super::resolve_span::ResolveSpan;

pin_project! {
    /// The future of [`TraceResolve`](super::TraceResolve). If it is dropped before it resolves, resolving ends then.
    pub struct TraceResolveFuture<F> {
        #[pin]
        inner: F,
        span: Option<ResolveSpan>,
    }
}

impl<F> TraceResolveFuture<F> {
    pub(super) const fn new(inner: F, span: ResolveSpan) -> Self {
        Self { inner, span: Some(span) }
    }
}

impl<F: Future> Future for TraceResolveFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let output = match this.span {
            Some(span) => ready!(span.dial().scope(|| this.inner.poll(cx))),
            None => ready!(this.inner.poll(cx)),
        };
        *this.span = None;
        Poll::Ready(output)
    }
}

impl<F: fmt::Debug> fmt::Debug for TraceResolveFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceResolveFuture").field("inner", &self.inner).finish_non_exhaustive()
    }
}
