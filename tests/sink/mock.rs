//! A traced client without a network: connections are in-memory pipes, and services answer at once.

use std::{convert::Infallible, io};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use nettrace::{
    ConnRef, RequestHandle, TraceSink,
    connect::{TraceConnectLayer, TracedIo},
    request::{TraceBody, TraceRequestLayer, TraceResponseBody},
};
use test_support::pipe::Pipe;
use tokio::io::DuplexStream;
use tower::{Layer, Service, ServiceExt, service_fn};

/// Creates a traced connection, and returns it with its other end.
pub(crate) async fn connect(sink: &TraceSink) -> (TracedIo<TokioIo<Pipe>>, DuplexStream) {
    let (here, there) = tokio::io::duplex(1 << 20);
    let mut here = Some(Pipe(here));
    let connector = service_fn(move |_: Uri| {
        let pipe = here.take();
        async move { pipe.map(TokioIo::new).ok_or_else(|| io::Error::other("there is one pipe")) }
    });
    let mut connector = TraceConnectLayer::new(sink).layer(connector);
    (connector.call(Uri::from_static("http://pipe.test")).await.unwrap(), there)
}

/// Makes a dial that fails.
pub(crate) async fn fail_to_connect(sink: &TraceSink) {
    let refused = || Err::<TokioIo<Pipe>, _>(io::Error::from(io::ErrorKind::ConnectionRefused));
    let refuse = service_fn(move |_: Uri| std::future::ready(refused()));
    let dialed = TraceConnectLayer::new(sink).layer(refuse).call(Uri::from_static("http://pipe.test")).await;
    assert!(dialed.is_err());
}

pub(crate) type Body = Full<Bytes>;
pub(crate) type TracedResponse = Response<TraceResponseBody<Body>>;

/// Sends a request through a traced service that answers with `response`.
pub(crate) async fn exchange(
    sink: &TraceSink,
    request: Request<Body>,
    response: impl Fn() -> Response<Body>,
) -> TracedResponse {
    let answer = service_fn(|_: Request<TraceBody<Body>>| {
        let response = response();
        async { Ok::<_, Infallible>(response) }
    });
    TraceRequestLayer::new(sink).layer(answer).oneshot(request).await.unwrap()
}

/// Makes a request, and returns the response before its body is read. The response is a redirect, so that the next
/// request with the same handle is recorded as the next hop.
pub(crate) async fn begin(
    sink: &TraceSink,
    conn: Option<&ConnRef>,
    handle: Option<&RequestHandle>,
) -> TracedResponse {
    let mut request = Request::new(Body::default());
    request.extensions_mut().extend(handle.cloned().map(extension).unwrap_or_default());
    exchange(sink, request, || {
        let mut response = Response::new(Body::from("hello"));
        *response.status_mut() = StatusCode::FOUND;
        if let Some(conn) = conn.cloned() {
            conn.attach(response.extensions_mut());
        }
        response
    })
    .await
}

/// Makes a request and reads its response. Returns the handle.
pub(crate) async fn fetch(sink: &TraceSink, conn: Option<&ConnRef>) -> RequestHandle {
    let handle = RequestHandle::new();
    finish(begin(sink, conn, Some(&handle)).await).await;
    handle
}

pub(crate) async fn finish(response: TracedResponse) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

fn extension<T: Clone + Send + Sync + 'static>(value: T) -> http::Extensions {
    let mut extensions = http::Extensions::new();
    extensions.insert(value);
    extensions
}
