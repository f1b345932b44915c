//! The response future of a recorded service: it records the response's head.

use super::{ResponseBody, body::BodyRecorder, panic_guard::PanicGuard};
use crate::{request::failure, sink::RequestRecorder};
use http::{Method, Response, StatusCode, Version, header::CONTENT_LENGTH};
use http_body::Body;
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

pin_project! {
    /// The response future of [`TraceServer`](super::TraceServer).
    #[derive(Debug)]
    pub struct TraceServerFuture<F> {
        #[pin]
        inner: F,
        // Ends the request after the future is dropped.
        in_flight: Option<InFlight>,
    }
}

impl<F> TraceServerFuture<F> {
    #[inline]
    pub(super) fn new(inner: F, in_flight: Option<InFlight>) -> Self {
        TraceServerFuture { inner, in_flight }
    }
}

impl<F, R, E> Future for TraceServerFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
    E: 'static,
{
    type Output = Result<Response<ResponseBody<R>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(in_flight) = this.in_flight else {
            return this.inner.poll(cx).map_ok(|response| response.map(|body| ResponseBody::new(body, None)));
        };
        let result = ready!(in_flight.guarded(|| this.inner.poll(cx)));
        Poll::Ready(match result {
            Ok(response) => {
                let recorder = in_flight.respond(&response);
                *this.in_flight = None;
                Ok(response.map(|body| ResponseBody::new(body, recorder)))
            }
            Err(error) => {
                failure::record_error(&error, &mut in_flight.recorder, "the service failed");
                *this.in_flight = None;
                Err(error)
            }
        })
    }
}

/// A request whose response is awaited. If it is dropped before there is one, it records why.
#[derive(Debug)]
pub(super) struct InFlight {
    recorder: RequestRecorder,
    guard: PanicGuard,
    /// The response to HEAD has no body, whatever its header declares (RFC 9110 section 9.3.2).
    is_head: bool,
    is_connect: bool,
    /// The request's version. The server responds with it, whatever version the service sets.
    version: Version,
}

impl InFlight {
    pub(super) fn new(recorder: RequestRecorder, method: &Method, version: Version) -> Self {
        let (is_head, is_connect) = (*method == Method::HEAD, *method == Method::CONNECT);
        InFlight { recorder, guard: PanicGuard::default(), is_head, is_connect, version }
    }

    #[inline]
    pub(super) fn guarded<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let _scope = self.recorder.served_scope();
        self.guard.run(work)
    }

    /// Records the head of the response. Returns the recorder of its body, or `None` if there is none to be sent.
    fn respond<R: Body>(&mut self, response: &Response<R>) -> Option<BodyRecorder> {
        self.recorder.response(response.status(), self.version, response.headers());
        let mut recorder = std::mem::take(&mut self.recorder);
        if self.is_bodiless(response.status()) || response.body().is_end_stream() {
            recorder.complete();
            return None;
        }
        recorder.is_on().then(|| BodyRecorder::new(recorder, length(response)))
    }

    fn is_bodiless(&self, status: StatusCode) -> bool {
        self.is_head
            || (self.is_connect && status.is_success())
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.guard.record_drop(&mut self.recorder);
    }
}

/// Returns the number of bytes that the server will send of a body: its `Content-Length`, else its exact size hint.
fn length<R: Body>(response: &Response<R>) -> Option<u64> {
    let declared = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    declared.or_else(|| response.body().size_hint().exact())
}
