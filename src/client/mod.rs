//! An HTTP client whose requests are traced: one composition of this crate's layers.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use nettrace::{Client, ResponseExt, TraceSink};
//! use std::time::Duration;
//!
//! let sink = TraceSink::new();
//! let client = Client::builder(&sink).timeout(Duration::from_secs(30)).build()?;
//! let response = client.get("https://example.com/").await?;
//! println!("{}", response.timings()?); // blocked 0 · dns 12.1 ms · connect 8.3 ms · …
//! let body = response.into_body().bytes().await?;
//! println!("{} bytes", body.len());
//! client.close().await; // returns when every connection's close is recorded
//! # Ok(()) }
//! ```
//!
//! From the outside in, a request passes: the time limit, redirects, the layers of the user, decompression, request
//! tracing, and the pool of connections. The pool dials through TLS, proxy and TCP connectors and the resolver.
//!
//! A request that an HTTP/2 server says it has not processed (`REFUSED_STREAM`, or left out by a `GOAWAY` without an
//! error) is sent again up to three times, if its body can be sent again; the record lists the `attempts`. A response
//! body that ends before its declared length is an error ([`IncompleteBody`]), as is one without a declared length that
//! ends without the end of its HTTP/2 stream.

mod body;
mod builder;
mod decompress;
mod error;
mod informational;
mod pool;
mod redirect;
mod request_target;
mod response_body;
mod send_body;
mod tasks;
mod traced_transport;
mod url;

pub(crate) use self::redirect::CredentialScope;
pub use self::{
    body::Body,
    builder::{ClientBuilder, ClientService, HttpVersion},
    error::ClientError,
    response_body::ResponseBody,
};
pub use crate::error::{ClientClosed, DecodeError, IncompleteBody, InvalidRequest, TimedOut};

use self::{
    error::Kind,
    pool::Pool,
    redirect::{Hop, UnusableLocation},
    response_body::Deadline,
    traced_transport::TracedTransport,
};
use crate::{
    error::{BoxError, NoRuntime},
    request::is_redirect,
    resolve::StubResolver,
    sink::{RequestHandle, TraceSink},
};
use bytes::Bytes;
use futures_util::future::{BoxFuture, Either};
use http::{HeaderValue, Method, Request, Response, Version, header};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tower::ServiceExt;
use tower_service::Service;

/// An HTTP client whose requests are traced. See the [module](self).
///
/// Cheap to clone. All clones share their connections.
#[derive(Clone)]
pub struct Client(Arc<ClientStack>);

struct ClientStack {
    stack: Stack,
    sink: TraceSink,
    pool: Arc<Pool>,
    /// The resolver that was built with the client. `None` if it was given, since others may use it.
    own_resolver: Option<StubResolver>,
    timeout: Option<Duration>,
    redirects: usize,
    user_agent: Option<HeaderValue>,
    close_after_use: bool,
}

/// The layers below redirects.
enum Stack {
    Plain(TracedTransport),
    /// The same, with layers of the user around it.
    Layered(ClientService),
}

impl Client {
    /// Returns a builder that configures the client.
    pub fn builder(sink: &TraceSink) -> ClientBuilder {
        ClientBuilder::new(sink)
    }

    fn new(stack: ClientStack) -> Self {
        Client(Arc::new(stack))
    }

    /// Returns the sink that the client records into.
    pub fn sink(&self) -> &TraceSink {
        &self.0.sink
    }

    /// Makes a GET request.
    pub fn get(&self, url: impl AsRef<str>) -> ResponseFuture {
        self.send(Method::GET, url.as_ref(), Body::empty())
    }

    /// Makes a HEAD request.
    pub fn head(&self, url: impl AsRef<str>) -> ResponseFuture {
        self.send(Method::HEAD, url.as_ref(), Body::empty())
    }

    /// Makes a POST request, without a `Content-Type`. For one, use [`request`](Self::request).
    pub fn post(&self, url: impl AsRef<str>, body: impl Into<Body>) -> ResponseFuture {
        self.send(Method::POST, url.as_ref(), body.into())
    }

    /// Makes a request.
    ///
    /// A [`RequestHandle`] in its extensions is bound to the request. hyper-util's `capture_connection` has no effect,
    /// as this is not its client.
    pub fn request(&self, request: Request<Body>) -> ResponseFuture {
        self.request_within(request, self.0.timeout, CredentialScope::Host)
    }

    /// Makes a request with its own limit on the total time and its own rule for credentials in redirects.
    pub(crate) fn request_within(
        &self,
        request: Request<Body>,
        limit: Option<Duration>,
        scope: CredentialScope,
    ) -> ResponseFuture {
        ResponseFuture(Box::pin(self.0.clone().send(request, limit, scope)))
    }

    /// Returns the limit on the total time of requests that have none of their own.
    #[cfg(feature = "reqwest")]
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.0.timeout
    }

    fn send(&self, method: Method, url: &str, body: Body) -> ResponseFuture {
        match url::parse(url, self.0.sink.masks_queries()) {
            Ok(uri) => {
                let mut request = Request::new(body);
                *request.method_mut() = method;
                *request.uri_mut() = uri;
                self.request(request)
            }
            Err(kind) => ResponseFuture::failed(ClientError::new(kind, RequestHandle::new())),
        }
    }

    /// Closes the connections that no request uses.
    pub fn close_idle_connections(&self) {
        self.0.pool.close_idle();
    }

    /// Closes the client and all its clones. Idle connections are closed, and requests in flight fail.
    ///
    /// Returns when the close of every connection is recorded and no task is left. The sink stays open.
    ///
    /// The last TCP packets may arrive later. To have them in conntrack entries and captures, await
    /// [`TraceSink::refresh`](crate::TraceSink::refresh) before the snapshot.
    pub async fn close(&self) {
        self.0.pool.close().await;
        if let Some(resolver) = &self.0.own_resolver {
            resolver.close_connections().await;
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("sink", &self.0.sink).finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for Client
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = ClientError;
    type Future = ResponseFuture;

    /// Always ready. Requests wait for a connection in their future.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        self.request(request.map(Body::new))
    }
}

/// The future of a response. Dropping it cancels the request.
#[must_use = "a request is not made until its future is polled"]
pub struct ResponseFuture(BoxFuture<'static, Result<Response<ResponseBody>, ClientError>>);

impl ResponseFuture {
    pub(crate) fn failed(error: ClientError) -> Self {
        ResponseFuture(Box::pin(std::future::ready(Err(error))))
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, ClientError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}

impl ClientStack {
    // An async block, because an async function would keep its arguments twice in its future, which is moved once.
    fn send(
        self: Arc<Self>,
        mut request: Request<Body>,
        limit: Option<Duration>,
        scope: CredentialScope,
    ) -> impl Future<Output = Result<Response<ResponseBody>, ClientError>> + Send {
        url::move_user_info(&mut request);
        async move {
            if self.pool.is_closed() {
                return Err(ClientError::failed(ClientClosed, RequestHandle::unbound()));
            }
            let mut deadline = match limit {
                Some(limit) => {
                    NoRuntime::check()
                        .map_err(|error| ClientError::failed(error, RequestHandle::unbound()))?;
                    Some(Deadline::new(limit))
                }
                None => None,
            };
            // The target of a CONNECT is a tunnel, which no redirect can lead to (RFC 9110 section 9.3.6).
            let may_follow = self.redirects > 0 && request.method() != Method::CONNECT;
            let mut hop = may_follow.then(|| Hop::new(&request, scope));
            let (handle, response) = self.call(request);
            let response = with_deadline(&mut deadline, &handle, pin!(response)).await?;
            let response = response.map_err(|error| ClientError::failed(error, handle.clone()))?;
            match &mut hop {
                Some(hop) if is_redirect(&response) => {
                    Box::pin(self.follow(hop, response, handle, deadline)).await
                }
                _ => {
                    if self.redirects > 0 && is_redirect(&response) {
                        handle.release(); // not followed
                    }
                    Ok(response.map(|body| body.with_deadline(deadline, handle)))
                }
            }
        }
    }

    /// Follows redirects until there is a response that is none.
    async fn follow(
        &self,
        hop: &mut Hop,
        mut response: Response<ResponseBody>,
        mut handle: RequestHandle,
        mut deadline: Option<Deadline>,
    ) -> Result<Response<ResponseBody>, ClientError> {
        // The record of a redirected request stays open until it is decided here whether it can be followed.
        for hops in 0.. {
            let mut next = match hop.next(&response) {
                Ok(Some(next)) => next,
                Ok(None) => break,
                Err(UnusableLocation(why)) => {
                    let status = response.status();
                    return Err(given_up(Kind::Redirect { status, why }, handle));
                }
            };
            let mut body = response.into_body();
            with_deadline(&mut deadline, &handle, pin!(skip(&mut body))).await?;
            if hops == self.redirects {
                return Err(given_up(Kind::TooManyRedirects(hops), handle));
            }
            if self.pool.is_closed() {
                return Err(given_up(Kind::Failed(ClientClosed.into()), handle));
            }
            handle.redirect_followed();
            drop(body);
            next.extensions_mut().insert(handle.into_slot());
            let next_response;
            (handle, next_response) = self.call(next);
            let next_response = with_deadline(&mut deadline, &handle, pin!(next_response)).await?;
            response = next_response.map_err(|error| ClientError::failed(error, handle.clone()))?;
        }
        handle.release();
        #[cfg(feature = "reqwest")]
        response.extensions_mut().insert(FinalUri(hop.uri().clone()));
        Ok(response.map(|body| body.with_deadline(deadline, handle)))
    }

    /// Begins one hop.
    fn call(
        &self,
        mut request: Request<Body>,
    ) -> (RequestHandle, impl Future<Output = Result<Response<ResponseBody>, BoxError>>) {
        self.prepare(&mut request);
        match &self.stack {
            Stack::Plain(transport) => {
                let (handle, response) = transport.send(request);
                (handle, Either::Left(response))
            }
            Stack::Layered(service) => {
                let handle = request.extensions_mut().get_or_insert_default::<RequestHandle>().clone();
                (handle, Either::Right(service.clone().oneshot(request)))
            }
        }
    }

    /// Adds the header fields that every request of the client has.
    fn prepare(&self, request: &mut Request<Body>) {
        if let Some(agent) = &self.user_agent {
            request.headers_mut().entry(header::USER_AGENT).or_insert_with(|| agent.clone());
        }
        if gives_content_a_meaning(request.method()) && request.body().is_end_stream() {
            request.headers_mut().entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from(0));
        }
        if self.close_after_use && request.version() < Version::HTTP_2 {
            let close = HeaderValue::from_static("close");
            request.headers_mut().entry(header::CONNECTION).or_insert(close);
        }
    }
}

/// The URI that redirects led to, in the extensions of the response.
#[cfg(feature = "reqwest")]
#[derive(Clone, Debug)]
pub(crate) struct FinalUri(pub(crate) http::Uri);

/// Records that a redirect cannot be followed, and returns the error. The record is still open because the layer below
/// holds it, see [`TraceRequestLayer::hold_redirects`](crate::request::TraceRequestLayer).
fn given_up(kind: Kind, handle: RequestHandle) -> ClientError {
    let error = ClientError::new(kind, handle);
    error.request().failed(error.failure(), error.to_string());
    error
}

/// Waits for `future`, but not beyond the deadline of the request. The timeout is recorded before `future` is dropped,
/// which would otherwise be recorded as a dropped request.
async fn with_deadline<F: Future>(
    deadline: &mut Option<Deadline>,
    request: &RequestHandle,
    mut future: Pin<&mut F>,
) -> Result<F::Output, ClientError> {
    poll_fn(|cx| {
        if let Poll::Ready(done) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        match deadline {
            Some(deadline) => {
                deadline.sleep.as_mut().poll(cx).map(|()| Err(deadline.record_timeout(request)))
            }
            None => Poll::Pending,
        }
    })
    .await
}

/// Returns `true` if requests with that method declare that they have no content (RFC 9110 section 8.6).
fn gives_content_a_meaning(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

/// Reads the rest of a redirect's body, so that its connection can be used again. Gives up if the body is long.
async fn skip(body: &mut ResponseBody) {
    const LIMIT: u64 = 2 << 10;
    let mut seen = 0;
    if body.size_hint().lower() > LIMIT {
        return;
    }
    while let Some(Ok(frame)) = body.frame().await {
        seen += frame.data_ref().map_or(0, |data| data.len() as u64);
        if seen > LIMIT {
            return;
        }
    }
}
