//! A middleware for clients that are a single connection.
//!
//! hyper's own connections add nothing to a response that tells which connection it came over, so the one who has the
//! connection says so here.

use crate::sink::ConnRef;
use http::{Request, Response};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower_service::Service;

/// A service that sends requests over one connection, and links them with it.
///
/// For the connections of hyper (`hyper::client::conn`), and for pools of them such as hyper-util's `client::pool`.
/// [`TraceRequestLayer`](super::TraceRequestLayer) goes around the pool. A request is linked when it gets here, so also
/// if it fails, is dropped or times out.
///
#[cfg_attr(feature = "connect", doc = "```")]
#[cfg_attr(not(feature = "connect"), doc = "```ignore")]
/// use hyper::client::conn::http2;
/// use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioExecutor};
/// use nettrace::{ConnRef, TraceSink, connect::TraceConnectLayer, request::OnConnection};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # async fn example(uri: http::Uri) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let sink = TraceSink::new();
/// let io = TraceConnectLayer::new(&sink).layer(HttpConnector::new()).oneshot(uri).await?;
/// let conn = ConnRef::of(&io);
/// let (mut sender, connection) = http2::handshake::<_, _, String>(TokioExecutor::new(), io).await?;
/// tokio::spawn(connection);
/// let client = OnConnection::new(conn, service_fn(move |request| sender.send_request(request)));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct OnConnection<S> {
    inner: S,
    conn: Option<ConnRef>,
}

impl<S> OnConnection<S> {
    /// Wraps a service that sends over the connection `conn`; `None` if that is not traced. See [`ConnRef::of`].
    pub fn new(conn: Option<ConnRef>, service: S) -> Self {
        OnConnection { inner: service, conn }
    }

    /// Returns a reference to the service itself.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the service itself.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the service itself.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, R> Service<Request<B>> for OnConnection<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = OnConnectionFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if let Some(conn) = &self.conn {
            conn.acquired_by_current_request();
        }
        OnConnectionFuture { inner: self.inner.call(request), conn: self.conn.clone() }
    }
}

pin_project! {
    /// The future of [`OnConnection`].
    #[derive(Debug)]
    pub struct OnConnectionFuture<F> {
        #[pin]
        inner: F,
        conn: Option<ConnRef>,
    }
}

impl<F, R, E> Future for OnConnectionFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut result = ready!(this.inner.poll(cx));
        if let (Ok(response), Some(conn)) = (&mut result, this.conn.take()) {
            conn.attach(response.extensions_mut());
        }
        Poll::Ready(result)
    }
}
