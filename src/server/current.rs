//! The request that is being answered, for work that is done in another task.

use crate::sink::ServedRequest;
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
};

pin_project! {
    /// The future of [`in_current_request`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct InCurrentRequest<F> {
        #[pin]
        inner: F,
        request: ServedRequest,
    }
}

/// Returns a future that runs `future` for the request that is being answered when this function is called.
///
/// Requests that a handler makes in its own task refer to the served request (`triggeredBy`). A spawned task has no
/// current request unless its future is wrapped:
///
/// ```
/// # async fn ask_a_service() {}
/// # async fn handler() {
/// use nettrace::server::in_current_request;
///
/// let asked = tokio::spawn(in_current_request(async {
///     ask_a_service().await;
/// }));
/// # asked.await.unwrap();
/// # }
/// ```
///
/// The future keeps the record of the request in memory. Do not wrap tasks that outlive the response by much.
///
/// Outside of a [`TraceServer`](super::TraceServer), or if its request is not recorded, the future runs as it is.
pub fn in_current_request<F: Future>(future: F) -> InCurrentRequest<F> {
    InCurrentRequest { inner: future, request: ServedRequest::current() }
}

impl<F: Future> Future for InCurrentRequest<F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _scope = this.request.enter();
        this.inner.poll(cx)
    }
}
