//! The response future of an observed reqwest client.
//!
//! It records the response, and links the request to its connection, which reqwest reports by its addresses only.

use super::addr_index::{AddrIndex, AddrPair, Origin, addr_pair};
use crate::{
    connected::with_extras,
    error::classify,
    request::TraceResponseBody,
    sink::{ConnRef, RequestHandle, RequestRecorder, TraceExtension},
};
use ::reqwest::{Body, Client, Error, Request, Response, ResponseBuilderExt, Url};
use http::Extensions;
use hyper_util::client::legacy::{self, connect::Connected};
use pin_project_lite::pin_project;
use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tower_service::Service;

/// The type of reqwest's future, which has no public name.
type Sent = <Client as Service<Request>>::Future;

pin_project! {
    /// The response future of [`TraceClient`](super::TraceClient). Dropping it cancels the request.
    #[derive(Debug)]
    #[must_use = "a request is not made until its future is polled"]
    pub struct TraceClientFuture {
        #[pin]
        inner: Sent,
        handle: RequestHandle,
        // Ends the request after the future is dropped.
        request: Option<InFlight>,
    }
}

/// A recorded request whose response is awaited.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) recorder: RequestRecorder,
    pub(super) addrs: Arc<AddrIndex>,
}

impl TraceClientFuture {
    pub(super) fn new(inner: Sent, handle: RequestHandle, request: Option<InFlight>) -> Self {
        TraceClientFuture { inner, handle, request }
    }

    /// Returns the handle of the request, which works at any time, even if the request fails or is dropped.
    pub fn request_handle(&self) -> &RequestHandle {
        &self.handle
    }
}

impl Future for TraceClientFuture {
    type Output = Result<Response, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(running) = this.request else { return this.inner.poll(cx) };
        let scope = running.recorder.scope();
        let polled = this.inner.poll(cx);
        drop(scope);
        running.recorder.rebind(this.handle);
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

impl InFlight {
    /// Links the request to the connection with these addresses, or to the one without addresses to the URL's origin.
    fn link(&self, addresses: Option<AddrPair>, url: Option<&Url>) -> Option<ConnRef> {
        let conn = match addresses {
            Some(addresses) => self.addrs.find(addresses, self.recorder.begin())?,
            None => self.addrs.find_unaddressed(&Origin::of_url(url?))?,
        };
        self.recorder.conn(&conn);
        Some(conn)
    }

    fn responded(self, response: Response, handle: RequestHandle) -> Response {
        let conn = self.link(addr_pair(response.extensions()), Some(response.url()));
        let mut recorder = self.recorder;
        recorder.head_sent();
        recorder.response(response.status(), response.version(), response.headers());
        let mut response = if response.content_length() == Some(0) {
            recorder.complete();
            response
        } else {
            traced(response, recorder)
        };
        // After the URL was taken out of the extensions again: the map of extensions has room for three.
        match conn {
            Some(conn) => {
                let mut extension = TraceExtension::new(conn);
                extension.set_request(handle);
                response.extensions_mut().insert(extension);
            }
            None => drop(response.extensions_mut().insert(handle)),
        }
        response
    }

    fn failed(self, error: &Error) {
        if let Some(connected) = of_error(error) {
            self.link(with_extras(connected, addr_pair), error.url());
        }
        let mut recorder = self.recorder;
        recorder.failed(classify::failure_detail(error));
    }
}

/// Wraps the body of a response. reqwest allows that only by converting the response to `http::Response` and back.
fn traced(response: Response, recorder: RequestRecorder) -> Response {
    let url = response.url().clone();
    let (mut parts, body) = http::Response::<Body>::from(response).into_parts();
    set_url(&mut parts.extensions, url);
    let body = TraceResponseBody::new(body, recorder);
    Response::from(http::Response::from_parts(parts, Body::wrap(body)))
}

/// Adds the extension that sets the URL of a reqwest response. Only a builder can make it.
pub(super) fn set_url(extensions: &mut Extensions, url: Url) {
    let mut builder = http::response::Builder::new();
    if let Some(of_builder) = builder.extensions_mut() {
        *of_builder = mem::take(extensions);
    }
    if let Ok(response) = builder.url(url).body(()) {
        *extensions = response.into_parts().0.extensions;
    }
}

/// Returns the connection on which a request failed.
fn of_error(error: &Error) -> Option<&Connected> {
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<legacy::Error>() {
            return error.connect_info();
        }
        next = error.source();
    }
    None
}
