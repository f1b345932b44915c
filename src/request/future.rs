use super::{TraceResponseBody, failure};
use crate::sink::{ConnRef, RequestHandle, RequestRecorder, answer};
use http::{Extensions, Response};
use http_body::Body;
use hyper_util::client::legacy::connect::CaptureConnection;
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll},
};

pin_project! {
    /// The future of [`TraceRequest`](super::TraceRequest).
    #[derive(Debug)]
    pub struct TraceRequestFuture<F> {
        #[pin]
        inner: F,
        recorder: RequestRecorder,
        listening: Listening,
    }

    impl<F> PinnedDrop for TraceRequestFuture<F> {
        #[inline]
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if this.recorder.is_on() {
                this.listening.see_connection(this.recorder);
            }
        }
    }
}

/// What the request carries to hear of.
#[derive(Debug, Default)]
pub(super) struct Listening {
    /// The caller's own.
    pub(super) handle: Option<RequestHandle>,
    pub(super) capture: Option<CaptureConnection>,
}

impl<F> TraceRequestFuture<F> {
    #[inline]
    pub(super) fn new(inner: F, recorder: RequestRecorder, listening: Listening) -> Self {
        TraceRequestFuture { inner, recorder, listening }
    }

    /// The handle of the request; unbound when it is not traced.
    #[cfg(feature = "client")]
    pub(crate) fn handle(&self) -> RequestHandle {
        let of_record = || self.recorder.request().map(RequestHandle::of);
        self.listening.handle.clone().or_else(of_record).unwrap_or_else(RequestHandle::unbound)
    }
}

impl<F, R, E> Future for TraceRequestFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
    E: 'static,
{
    type Output = Result<Response<TraceResponseBody<R>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let scope = this.recorder.scope();
        let mut result = this.inner.poll(cx);
        drop(scope);
        if this.recorder.is_on() {
            this.listening.see_connection(this.recorder);
            match &mut result {
                Poll::Pending => {}
                Poll::Ready(Ok(response)) => {
                    this.listening.responded(this.recorder, response);
                    if response.body().is_end_stream() {
                        this.recorder.complete();
                    }
                }
                Poll::Ready(Err(error)) => failure::record(error, std::mem::take(this.recorder)),
            }
        }
        // Moved only here: it is large.
        result.map(|result| {
            let recorder = std::mem::take(this.recorder);
            result.map(|response| response.map(|body| TraceResponseBody::new(body, recorder)))
        })
    }
}

impl Listening {
    fn responded<R>(&mut self, recorder: &mut RequestRecorder, response: &mut Response<R>) {
        if let Some(conn) = response.extensions().get::<ConnRef>() {
            recorder.conn(conn);
        }
        recorder.response(response.status(), response.version(), response.headers());
        let handle = self.handle.take().or_else(|| recorder.request().map(RequestHandle::of));
        if let Some(handle) = handle {
            answer(response.extensions_mut(), handle);
        }
    }

    /// The connection that the client has chosen by now, if it says so.
    #[inline]
    fn see_connection(&self, recorder: &RequestRecorder) {
        if let Some(capture) = &self.capture {
            see_connection(recorder, capture);
        }
    }
}

fn see_connection(recorder: &RequestRecorder, capture: &CaptureConnection) {
    let metadata = capture.connection_metadata();
    let Some(connected) = metadata.as_ref() else { return };
    let mut extras = Extensions::new();
    connected.get_extras(&mut extras);
    if let Some(conn) = extras.get::<ConnRef>() {
        recorder.acquired(conn);
    }
}
