//! The response body of [`Client`](super::Client), and the time limit of its request.

use super::{decompress::Decoded, error::ClientError, pool::LeasedBody};
use crate::{error::TimedOut, request::TraceResponseBody, sink::RequestHandle};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Sleep;

/// The body of a response of [`Client`](super::Client).
///
/// The request is in progress until this is read to its end or dropped, and the client's time limit applies until then.
pub struct ResponseBody {
    /// `None` after the deadline.
    inner: Option<Decoded<TraceResponseBody<LeasedBody>>>,
    deadline: Option<Deadline>,
    request: RequestHandle,
}

/// The time limit of a request, including its redirects and the response body.
#[derive(Debug)]
pub(super) struct Deadline {
    pub(super) sleep: Pin<Box<Sleep>>,
    limit: Duration,
}

impl Deadline {
    pub(super) fn new(limit: Duration) -> Self {
        Deadline { sleep: Box::pin(tokio::time::sleep(limit)), limit }
    }

    /// Records on the request that it timed out, and returns the error for the caller.
    pub(super) fn record_timeout(&self, request: &RequestHandle) -> ClientError {
        let error = TimedOut { what: "the request was not done", limit: self.limit };
        request.timed_out(&error.to_string());
        ClientError::failed(error, request.clone())
    }
}

impl ResponseBody {
    pub(super) fn new(body: Decoded<TraceResponseBody<LeasedBody>>) -> Self {
        ResponseBody { inner: Some(body), deadline: None, request: RequestHandle::unbound() }
    }

    pub(super) fn with_deadline(mut self, deadline: Option<Deadline>, request: RequestHandle) -> Self {
        self.deadline = deadline;
        self.request = request;
        self
    }

    /// Reads the whole body. There is no limit on its size.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection breaks, the time limit expires, or the body cannot be decoded.
    pub async fn bytes(self) -> Result<Bytes, ClientError> {
        self.collect().await.map(|all| all.to_bytes())
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = ClientError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientError>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        // The body is polled first: a frame that is ready is delivered even after the deadline.
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) {
            if frame.is_none() {
                this.deadline = None;
            }
            let failed = |error| ClientError::failed(error, this.request.clone());
            return Poll::Ready(frame.map(|frame| frame.map_err(failed)));
        }
        if let Some(deadline) = &mut this.deadline
            && deadline.sleep.as_mut().poll(cx).is_ready()
        {
            let error = deadline.record_timeout(&this.request);
            this.inner = None;
            this.deadline = None;
            return Poll::Ready(Some(Err(error)));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("request", &self.request).finish_non_exhaustive()
    }
}
