use crate::{
    error::classify,
    request::TraceResponseBody,
    sink::{Addresses, RequestHandle, RequestRecorder, TraceSink},
};
use ::reqwest::{Body, Error, Response, ResponseBuilderExt, Url};
use http::Extensions;
use hyper_util::client::legacy::{self, connect::HttpInfo};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

pin_project! {
    /// The future of [`TraceClient`](super::TraceClient).
    #[derive(Debug)]
    pub struct TraceClientFuture<F> {
        #[pin]
        inner: F,
        handle: RequestHandle,
        // Ends the request after the future is dropped.
        request: Option<Running>,
    }
}

/// A request on its way to its response.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) recorder: RequestRecorder,
    /// The length of a body in one piece.
    pub(super) piece: Option<u64>,
    pub(super) sink: TraceSink,
}

impl<F> TraceClientFuture<F> {
    pub(super) fn new(inner: F, handle: RequestHandle, request: Option<Running>) -> Self {
        TraceClientFuture { inner, handle, request }
    }

    /// Answers for the request at any time, also when it fails or is dropped.
    pub fn request_handle(&self) -> &RequestHandle {
        &self.handle
    }
}

impl<F> Future for TraceClientFuture<F>
where
    F: Future<Output = Result<Response, Error>>,
{
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(running) = this.request else { return this.inner.poll(cx) };
        let scope = running.recorder.scope();
        let polled = this.inner.poll(cx);
        drop(scope);
        running.recorder.moved_on(this.handle);
        let result = ready!(polled);
        let Some(running) = this.request.take() else { return Poll::Ready(result) };
        Poll::Ready(match result {
            Ok(response) => Ok(running.responded(response, this.handle.clone())),
            Err(error) => {
                running.failed(&error);
                Err(error)
            }
        })
    }
}

impl Running {
    fn responded(self, mut response: Response, handle: RequestHandle) -> Response {
        let Running { mut recorder, piece, sink } = self;
        let conn = addresses(response.extensions()).and_then(|addresses| recorder.known(&sink, addresses));
        match conn {
            Some(mut conn) => {
                conn.answers(handle);
                response.extensions_mut().insert(conn);
            }
            None => drop(response.extensions_mut().insert(handle)),
        }
        if let Some(bytes) = piece {
            recorder.sent_whole(bytes);
        }
        recorder.response(response.status(), response.version(), response.headers());
        if response.content_length() == Some(0) {
            recorder.complete();
            return response;
        }
        traced(response, recorder)
    }

    fn failed(self, error: &Error) {
        let Running { mut recorder, sink, .. } = self;
        if let Some(addresses) = of_error(error) {
            recorder.known(&sink, addresses);
        }
        recorder.failed(classify::failure(error), &classify::chain(error));
    }
}

/// The same response with its body recorded. reqwest gives the body away in one way only, and takes it back in one.
fn traced(response: Response, recorder: RequestRecorder) -> Response {
    let url = response.url().clone();
    let (mut parts, body) = http::Response::<Body>::from(response).into_parts();
    parts.extensions.extend(with_url(url));
    let body = TraceResponseBody::new(body, recorder);
    Response::from(http::Response::from_parts(parts, Body::wrap(body)))
}

/// The extension that tells a response of reqwest's its URL.
pub(super) fn with_url(url: Url) -> Extensions {
    let response = http::response::Builder::new().url(url).body(());
    response.map(|response| response.into_parts().0.extensions).unwrap_or_default()
}

/// Ours and the peer's, of the connection that a response came over.
fn addresses(extensions: &Extensions) -> Option<Addresses> {
    let info = extensions.get::<HttpInfo>()?;
    Some((info.local_addr(), info.remote_addr()))
}

/// The same of the connection that a request failed on.
fn of_error(error: &Error) -> Option<Addresses> {
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<legacy::Error>() {
            let mut extras = Extensions::new();
            error.connect_info()?.get_extras(&mut extras);
            return addresses(&extras);
        }
        next = error.source();
    }
    None
}
