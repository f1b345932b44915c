//! The body of a response while it is sent.

use super::panic_guard::PanicGuard;
use crate::{
    error::{
        FailureDetail,
        classify::{self, downcast_error},
    },
    record::Failure,
    sink::RequestRecorder,
};
use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    any::Any,
    pin::Pin,
    task::{Context, Poll, ready},
};

pin_project! {
    /// The body of a response, which counts the bytes that the server's connection takes. Its end, or its drop, ends
    /// the request's record.
    #[derive(Debug)]
    pub struct ResponseBody<B: Body> {
        #[pin]
        inner: B,
        // None if the request is not recorded, and once its record has ended.
        recorder: Option<BodyRecorder>,
    }

    impl<B: Body> PinnedDrop for ResponseBody<B> {
        // A server may drop a complete body without polling it for its end.
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(body) = this.recorder && !body.guard.is_running() && this.inner.is_end_stream() {
                body.request.complete();
            }
        }
    }
}

/// Records the body of a response. If it is dropped before the body is complete, it records why.
#[derive(Debug)]
pub(super) struct BodyRecorder {
    request: RequestRecorder,
    guard: PanicGuard,
    sent: u64,
    /// The number of bytes to be sent, if known.
    expected_bytes: Option<u64>,
}

impl BodyRecorder {
    pub(super) fn new(request: RequestRecorder, expected_bytes: Option<u64>) -> Self {
        BodyRecorder { request, guard: PanicGuard::default(), sent: 0, expected_bytes }
    }

    #[inline]
    fn guarded<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let _scope = self.request.served_scope();
        self.guard.run(work)
    }

    fn on_frame<D: Buf>(&mut self, part: &Frame<D>) {
        if let Some(data) = part.data_ref() {
            let bytes = data.remaining() as u64;
            self.sent += bytes;
            self.request.received(bytes);
        } else if let Some(trailers) = part.trailers_ref() {
            self.request.trailers(trailers);
            self.request.complete(); // they are the last
        }
    }

    #[cold]
    fn failed(&mut self, error: &dyn Any) {
        let text = downcast_error(error).map_or_else(|| "the body failed".to_owned(), classify::error_chain);
        self.request.failed(FailureDetail::new(Failure::ResponseBodyError, text));
    }
}

impl Drop for BodyRecorder {
    fn drop(&mut self) {
        if !self.guard.is_running() && self.expected_bytes.is_some_and(|expected| self.sent >= expected) {
            self.request.complete();
        }
        self.guard.record_drop(&mut self.request);
    }
}

impl<B: Body> ResponseBody<B> {
    pub(super) fn new(inner: B, recorder: Option<BodyRecorder>) -> Self {
        ResponseBody { inner, recorder }
    }

    /// Returns a reference to the inner body.
    pub fn get_ref(&self) -> &B {
        &self.inner
    }
}

impl<B: Body> Body for ResponseBody<B>
where
    B::Error: 'static,
{
    type Data = B::Data;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let Some(body) = this.recorder else { return this.inner.poll_frame(cx) };
        let frame = ready!(body.guarded(|| this.inner.as_mut().poll_frame(cx)));
        match &frame {
            Some(Ok(part)) => {
                body.on_frame(part);
                if this.inner.is_end_stream() {
                    body.request.complete();
                }
            }
            Some(Err(error)) => body.failed(error),
            None => body.request.complete(),
        }
        if !body.request.is_on() {
            *this.recorder = None;
        }
        Poll::Ready(frame)
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
