use super::{TraceResponseBody, failure};
use crate::sink::{ConnRef, RequestHandle, RequestRecorder};
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
        handle: Option<RequestHandle>,
        capture: Option<CaptureConnection>,
    }

    impl<F> PinnedDrop for TraceRequestFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if this.recorder.is_on() {
                see_connection(this.recorder, this.capture.as_ref());
            }
        }
    }
}

impl<F> TraceRequestFuture<F> {
    pub(super) fn new(
        inner: F,
        recorder: RequestRecorder,
        handle: Option<RequestHandle>,
        capture: Option<CaptureConnection>,
    ) -> Self {
        TraceRequestFuture { inner, recorder, handle, capture }
    }

    /// The handle of the request; unbound when it is not traced.
    #[cfg(feature = "client")]
    pub(crate) fn handle(&self) -> RequestHandle {
        let of_record = || self.recorder.request().map(RequestHandle::of);
        self.handle.clone().or_else(of_record).unwrap_or_else(RequestHandle::unbound)
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
        let inner = this.inner;
        let result = this.recorder.scope(|| inner.poll(cx));
        if !this.recorder.is_on() {
            let untraced = |body| TraceResponseBody::new(body, RequestRecorder::off());
            return result.map(|result| result.map(|response| response.map(untraced)));
        }
        see_connection(this.recorder, this.capture.as_ref());
        match result {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(response)) => {
                Poll::Ready(Ok(responded(response, std::mem::take(this.recorder), this.handle.take())))
            }
            Poll::Ready(Err(error)) => {
                failure::record(&error, std::mem::take(this.recorder));
                Poll::Ready(Err(error))
            }
        }
    }
}

fn responded<R: Body>(
    mut response: Response<R>,
    mut recorder: RequestRecorder,
    handle: Option<RequestHandle>,
) -> Response<TraceResponseBody<R>> {
    if let Some(conn) = response.extensions().get::<ConnRef>() {
        recorder.conn(conn);
    }
    recorder.response(response.status(), response.version(), response.headers());
    if let Some(handle) = handle.or_else(|| recorder.request().map(RequestHandle::of)) {
        response.extensions_mut().insert(handle);
    }
    if response.body().is_end_stream() {
        recorder.complete();
    }
    response.map(|body| TraceResponseBody::new(body, recorder))
}

/// The connection that the client has chosen by now, if it says so.
fn see_connection(recorder: &RequestRecorder, capture: Option<&CaptureConnection>) {
    let Some(capture) = capture else { return };
    let metadata = capture.connection_metadata();
    let Some(connected) = metadata.as_ref() else { return };
    let mut extras = Extensions::new();
    connected.get_extras(&mut extras);
    if let Some(conn) = extras.get::<ConnRef>() {
        recorder.acquired(conn);
    }
}
