use super::{TraceResponseBody, failure};
use crate::{
    connected::with_extras,
    sink::{ConnRef, RequestHandle, RequestRecorder, TraceExtension},
};
use http::{Response, header};
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
        // Behind the future, so that the record ends after that is dropped.
        request: Option<TracedRequest>,
    }
}

/// A recorded request that has no response yet.
#[derive(Debug)]
pub(super) struct TracedRequest {
    pub(super) recorder: RequestRecorder,
    /// The handle that the caller put into the request's extensions.
    pub(super) handle: Option<RequestHandle>,
    /// The channel on which hyper-util's client reports the connection that it chooses.
    pub(super) capture: Option<CaptureConnection>,
    /// See [`TraceRequestLayer::hold_redirects`](super::TraceRequestLayer::hold_redirects).
    pub(super) holds_redirects: bool,
}

/// Returns `true` if the response is a redirect. One with an empty `Location` is not.
pub(crate) fn is_redirect<B>(response: &Response<B>) -> bool {
    let location = response.headers().get(header::LOCATION);
    response.status().is_redirection() && location.is_some_and(|location| !location.is_empty())
}

impl<F> TraceRequestFuture<F> {
    #[inline]
    pub(super) fn new(inner: F, request: Option<TracedRequest>) -> Self {
        TraceRequestFuture { inner, request }
    }

    /// Returns the handle of the request; unbound if the request is not recorded.
    #[cfg(feature = "client")]
    pub(crate) fn handle(&self) -> RequestHandle {
        let Some(request) = &self.request else { return RequestHandle::unbound() };
        let of_record = || request.recorder.request().map(RequestHandle::of);
        request.handle.clone().or_else(of_record).unwrap_or_else(RequestHandle::unbound)
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
        if let Some(request) = this.request {
            let result = request.poll(this.inner, cx);
            if result.is_ready() {
                *this.request = None;
            }
            return result;
        }
        // The response is large. A reference to it would have the compiler copy it once more.
        let untraced = |body| TraceResponseBody::new(body, RequestRecorder::off());
        this.inner.poll(cx).map(|result| result.map(|response| response.map(untraced)))
    }
}

impl TracedRequest {
    #[inline]
    fn poll<F, R, E>(
        &mut self,
        inner: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<TraceResponseBody<R>>, E>>
    where
        F: Future<Output = Result<Response<R>, E>>,
        R: Body,
        E: 'static,
    {
        let scope = self.recorder.scope();
        let mut result = inner.poll(cx);
        drop(scope);
        match &mut result {
            Poll::Pending => {
                self.link_connection();
                return Poll::Pending;
            }
            Poll::Ready(Ok(response)) => {
                self.responded(response);
                if self.holds_redirects && is_redirect(response) {
                    self.recorder.hold();
                }
                if response.body().is_end_stream() {
                    self.recorder.complete();
                } else {
                    self.recorder.declares(response.headers(), response.body().size_hint().exact());
                }
            }
            Poll::Ready(Err(error)) => {
                self.link_connection();
                failure::record_client_error(error, std::mem::take(&mut self.recorder))
            }
        }
        // There is nothing left that a drop could add.
        self.capture = None;
        let recorder = std::mem::take(&mut self.recorder);
        let traced = |body| TraceResponseBody::new(body, recorder);
        result.map(|result| result.map(|response| response.map(traced)))
    }

    fn responded<R>(&mut self, response: &mut Response<R>) {
        let Some(request) = self.recorder.request() else { return };
        let handle = self.handle.take().unwrap_or_else(|| RequestHandle::of(request));
        // Each extension is a box of its own. If the connection is among them, the handle goes into that one.
        match response.extensions_mut().get_mut::<TraceExtension>() {
            Some(extension) => {
                // Only the client's report tells when it chose the connection. Usually an earlier poll has seen it.
                if self.capture.is_some() && !request.is_only_linked_to(extension.conn()) {
                    self.link_connection();
                }
                request.link(extension.conn());
                extension.set_request(handle);
            }
            None => {
                self.link_connection();
                response.extensions_mut().insert(handle);
            }
        }
        self.recorder.response(response.status(), response.version(), response.headers());
    }

    /// Links the connection that the client has reported by now. Later it may report another one: hyper-util's client
    /// sends a request again if its connection turns out to be closed.
    #[inline]
    fn link_connection(&self) {
        if let Some(capture) = &self.capture {
            link_connection(&self.recorder, capture);
        }
    }
}

impl Drop for TracedRequest {
    #[inline]
    fn drop(&mut self) {
        self.link_connection();
    }
}

#[inline(never)]
fn link_connection(recorder: &RequestRecorder, capture: &CaptureConnection) {
    let metadata = capture.connection_metadata();
    let Some(connected) = metadata.as_ref() else { return };
    with_extras(connected, |extras| {
        if let Some(conn) = ConnRef::from_extensions(extras) {
            recorder.acquired(conn);
        }
    });
    if connected.is_negotiated_h2() {
        recorder.set_http2();
    }
}
