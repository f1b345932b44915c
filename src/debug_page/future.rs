//! The response future.

use super::{body::DebugPageBody, response};
use http::Response;
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::sync::oneshot;

/// The response future of a [`DebugPage`](super::DebugPage). It never fails.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct DebugPageFuture(Repr);

#[derive(Debug)]
enum Repr {
    /// `None` after it was returned.
    Ready(Option<Box<Response<DebugPageBody>>>),
    Waiting(oneshot::Receiver<Response<DebugPageBody>>),
}

impl DebugPageFuture {
    pub(super) fn ready(response: Response<DebugPageBody>) -> Self {
        DebugPageFuture(Repr::Ready(Some(Box::new(response))))
    }

    pub(super) fn waiting(response: oneshot::Receiver<Response<DebugPageBody>>) -> Self {
        DebugPageFuture(Repr::Waiting(response))
    }
}

impl Future for DebugPageFuture {
    type Output = Result<Response<DebugPageBody>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Repr::Ready(response) => match response.take() {
                Some(response) => Poll::Ready(Ok(*response)),
                None => Poll::Pending,
            },
            Repr::Waiting(receiver) => {
                let response = ready!(Pin::new(receiver).poll(cx));
                self.0 = Repr::Ready(None);
                Poll::Ready(Ok(response.unwrap_or_else(|_| response::panicked())))
            }
        }
    }
}
