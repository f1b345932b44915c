//! Body wrappers that record how many bytes of a request or a response pass, and when the body ends.

use super::failure;
#[cfg(feature = "tonic")]
use crate::sink::PendingRequest;
use crate::sink::{RequestBodyRecorder, RequestRecorder};
use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

pin_project! {
    /// The body of a request, counted as the client (or, in a server, the handler) reads it.
    ///
    /// One pointer larger than the body itself.
    #[derive(Debug, Default)]
    pub struct TraceBody<B> {
        #[pin]
        inner: B,
        recorder: Option<Box<RequestBodyRecorder>>,
    }
}

impl<B> TraceBody<B> {
    pub(crate) fn new(inner: B, recorder: Option<Box<RequestBodyRecorder>>) -> Self {
        TraceBody { inner, recorder }
    }

    /// Returns the request, to link it to the connection that takes it; `None` if it is not recorded or its body is
    /// empty.
    #[cfg(feature = "tonic")]
    pub(crate) fn pending_request(&self) -> Option<PendingRequest> {
        self.recorder.as_ref()?.pending_request()
    }

    /// Returns a reference to the body itself.
    pub fn get_ref(&self) -> &B {
        &self.inner
    }

    /// Returns the body itself.
    pub fn into_inner(self) -> B {
        self.inner
    }
}

impl<B: Body> Body for TraceBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        if let Some(recorder) = this.recorder {
            if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
                recorder.sent(data.remaining() as u64);
            }
            if frame.is_none() || this.inner.is_end_stream() {
                recorder.complete();
                *this.recorder = None;
            }
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

pin_project! {
    /// The body of a response, counted as it is read. Its end, or its drop, ends the record of the request.
    ///
    /// [`Default`] returns the default of the body itself, which belongs to no request.
    #[derive(Debug)]
    pub struct TraceResponseBody<B: Body> {
        // `None` only after `into_inner` took it. The rest is then dropped, since a type with a destructor cannot be
        // taken apart.
        #[pin]
        inner: Option<B>,
        recorder: RequestRecorder,
    }

    impl<B: Body> PinnedDrop for TraceResponseBody<B> {
        // A client may drop a body after its last frame, without a poll that returns `None`. A body that has not ended
        // is left to the drop of the recorder, which records the request as cancelled.
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if this.recorder.is_on()
                && let Some(inner) = this.inner.as_pin_mut().filter(|inner| inner.is_end_stream())
            {
                ended(&*inner, this.recorder);
            }
        }
    }
}

/// Records the end of the body, and how many bytes of it are missing. A body that was cut off does not always fail:
/// when an HTTP/2 stream is reset with `NO_ERROR`, hyper's body just ends. Only its size hint then tells that bytes are
/// missing.
fn ended<B: Body>(body: &B, recorder: &mut RequestRecorder) {
    recorder.ended(body.size_hint().lower());
}

impl<B: Body> TraceResponseBody<B> {
    pub(crate) fn new(inner: B, recorder: RequestRecorder) -> Self {
        TraceResponseBody { inner: Some(inner), recorder }
    }

    /// Returns a reference to the body itself.
    pub fn get_ref(&self) -> &B {
        self.inner.as_ref().expect("only into_inner takes it, with all of self")
    }

    /// Returns the body itself. What is read from it is no longer recorded.
    ///
    /// The record of the request ends here: as [`Closed`](crate::record::EndReason::Closed) if the body is at its end,
    /// otherwise as [`Unobserved`](crate::record::EndReason::Unobserved), without an end time.
    pub fn into_inner(mut self) -> B {
        let inner = self.inner.take().expect("only into_inner takes it, with all of self");
        if inner.is_end_stream() {
            ended(&inner, &mut self.recorder);
        } else {
            self.recorder.finish_unobserved();
        }
        inner
    }
}

impl<B: Body + Default> Default for TraceResponseBody<B> {
    fn default() -> Self {
        TraceResponseBody::new(B::default(), RequestRecorder::off())
    }
}

impl<B: Body> Body for TraceResponseBody<B>
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
        let this = self.project();
        let Some(mut inner) = this.inner.as_pin_mut() else { return Poll::Ready(None) };
        let frame = ready!(inner.as_mut().poll_frame(cx));
        if !this.recorder.is_on() {
            return Poll::Ready(frame);
        }
        match &frame {
            Some(Ok(part)) => {
                if let Some(data) = part.data_ref() {
                    this.recorder.received(data.remaining() as u64);
                } else if let Some(trailers) = part.trailers_ref() {
                    this.recorder.trailers(trailers);
                }
                if inner.is_end_stream() {
                    ended(&*inner, this.recorder);
                }
            }
            Some(Err(error)) => failure::record_error(error, this.recorder, "the body failed"),
            None => ended(&*inner, this.recorder),
        }
        Poll::Ready(frame)
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(B::is_end_stream)
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(SizeHint::default, B::size_hint)
    }
}
