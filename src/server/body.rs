//! The body of a response on its way out.

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
    /// The body of a response, counted as the server's connection takes it. Its end, or its drop, is the end of the
    /// request.
    #[derive(Debug)]
    pub struct ResponseBody<B: Body> {
        #[pin]
        inner: B,
        // Nothing when there is nothing to be seen of it any more.
        rest: Option<BodyRecorder>,
    }

    impl<B: Body> PinnedDrop for ResponseBody<B> {
        // A body that has nothing more may never be polled for its end.
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(rest) = this.rest && !rest.guard.is_running() && this.inner.is_end_stream() {
                rest.recorder.complete();
            }
        }
    }
}

/// What is to be seen of a response after its head. Dropped before its end, it says why there is no more.
#[derive(Debug)]
pub(super) struct BodyRecorder {
    recorder: RequestRecorder,
    guard: PanicGuard,
    sent: u64,
    /// So much is sent, as far as that is known beforehand.
    length: Option<u64>,
}

impl BodyRecorder {
    pub(super) fn new(recorder: RequestRecorder, length: Option<u64>) -> Self {
        BodyRecorder { recorder, guard: PanicGuard::default(), sent: 0, length }
    }

    fn on_frame<D: Buf>(&mut self, part: &Frame<D>) {
        if let Some(data) = part.data_ref() {
            let bytes = data.remaining() as u64;
            self.sent += bytes;
            self.recorder.received(bytes);
        } else if let Some(trailers) = part.trailers_ref() {
            self.recorder.trailers(trailers);
            self.recorder.complete(); // they are the last
        }
    }

    #[cold]
    fn failed(&mut self, error: &dyn Any) {
        let text = downcast_error(error).map_or_else(|| "the body failed".to_owned(), classify::error_chain);
        self.recorder.failed(FailureDetail::new(Failure::ResponseBodyError, text));
    }
}

impl Drop for BodyRecorder {
    fn drop(&mut self) {
        if !self.guard.is_running() && self.length.is_some_and(|length| self.sent >= length) {
            self.recorder.complete();
        }
        self.guard.dropped(&mut self.recorder);
    }
}

impl<B: Body> ResponseBody<B> {
    pub(super) fn new(inner: B, rest: Option<BodyRecorder>) -> Self {
        ResponseBody { inner, rest }
    }

    /// The body itself.
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
        let Some(rest) = this.rest else { return this.inner.poll_frame(cx) };
        let frame = ready!(rest.guard.run(|| this.inner.as_mut().poll_frame(cx)));
        match &frame {
            Some(Ok(part)) => {
                rest.on_frame(part);
                if this.inner.is_end_stream() {
                    rest.recorder.complete();
                }
            }
            Some(Err(error)) => rest.failed(error),
            None => rest.recorder.complete(),
        }
        if !rest.recorder.is_on() {
            *this.rest = None;
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
