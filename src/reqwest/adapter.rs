//! A service that makes reqwest's requests with this crate's client.

use super::future::set_url;
use crate::{
    client::{Body, Client, ClientError, CredentialScope, FinalUri, ResponseBody, ResponseFuture},
    sink::RequestHandle,
};
use ::reqwest::{Request, Response, Url};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use pin_project_lite::pin_project;
use std::{
    error::Error,
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower_service::Service;

/// Makes reqwest's requests with a [`Client`], which records them in full depth. See the [module](super).
///
/// The [`Client`] and each request's own version and timeout decide how requests are made. Settings of a reqwest client
/// have no effect. Redirects are followed by the client's rules, but `Authorization` and `Cookie` are kept by
/// reqwest's: only if scheme, host and port stay the same.
#[derive(Clone, Debug)]
pub struct ClientAdapter(Client);

impl ClientAdapter {
    /// Creates an adapter that makes requests with `client`.
    pub fn new(client: &Client) -> Self {
        ClientAdapter(client.clone())
    }

    /// Returns the client that makes the requests.
    pub fn get_ref(&self) -> &Client {
        &self.0
    }

    /// Makes a request.
    pub fn execute(&self, request: Request) -> ClientAdapterFuture {
        let limit = request.timeout().copied().or(self.0.timeout());
        let (url, request) = (request.url().clone(), http::Request::<::reqwest::Body>::try_from(request));
        ClientAdapterFuture {
            url: Some(url),
            inner: match request {
                Ok(request) => self.0.request_within(request.map(body), limit, CredentialScope::Origin),
                Err(error) => failed(error),
            },
        }
    }
}

/// Returns the future of a request that could not be built.
pub(super) fn failed(error: ::reqwest::Error) -> ResponseFuture {
    ResponseFuture::failed(ClientError::failed(error, RequestHandle::unbound()))
}

/// Converts a body. One in a single piece stays so, since it can be sent again.
fn body(mut body: ::reqwest::Body) -> Body {
    if body.as_bytes().is_some()
        && let Some(Some(Ok(frame))) = body.frame().now_or_never()
        && let Ok(bytes) = frame.into_data()
    {
        return Body::from(bytes);
    }
    Body::new(body)
}

impl Service<Request> for ClientAdapter {
    type Response = Response;
    type Error = ClientError;
    type Future = ClientAdapterFuture;

    /// Always ready, since requests wait for their connection later.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> ClientAdapterFuture {
        self.execute(request)
    }
}

pin_project! {
    /// The response future of [`ClientAdapter`]. Dropping it cancels the request.
    #[must_use = "a request is not made until its future is polled"]
    pub struct ClientAdapterFuture {
        #[pin]
        inner: ResponseFuture,
        url: Option<Url>,
    }
}

impl ClientAdapterFuture {
    pub(super) fn failed(error: ::reqwest::Error) -> Self {
        ClientAdapterFuture { inner: failed(error), url: None }
    }
}

impl Future for ClientAdapterFuture {
    type Output = Result<Response, ClientError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        Poll::Ready(Ok(converted(response, this.url.take())))
    }
}

impl fmt::Debug for ClientAdapterFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientAdapterFuture")
    }
}

fn converted(response: http::Response<ResponseBody>, asked: Option<Url>) -> Response {
    let (mut parts, body) = response.into_parts();
    let led_to = parts.extensions.remove::<FinalUri>().and_then(|uri| Url::parse(&uri.0.to_string()).ok());
    if let Some(mut url) = led_to.or(asked) {
        url.set_fragment(None); // is never sent
        set_url(&mut parts.extensions, url);
    }
    let body = body.map_err(into_body_error);
    Response::from(http::Response::from_parts(parts, ::reqwest::Body::wrap(body)))
}

/// Converts an error so that [`reqwest::Error::is_timeout`] recognizes a timeout of this crate's client: it looks for
/// an I/O error of that kind.
fn into_body_error(error: ClientError) -> Box<dyn Error + Send + Sync> {
    if error.is_timeout() {
        Box::new(io::Error::new(io::ErrorKind::TimedOut, BodyTimeout(error)))
    } else {
        error.into()
    }
}

/// A timeout that expired before the body was complete. Its source is the client's error.
#[derive(Debug)]
struct BodyTimeout(ClientError);

impl fmt::Display for BodyTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("timed out in the response body")
    }
}

impl Error for BodyTimeout {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}
