//! The untraced client and every way of tracing it, and the outcome of a request as the caller sees it.

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::combinators::{BoxBody, UnsyncBoxBody};
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use nettrace::client::HttpVersion;
use nettrace::connect::{TcpConnector, TraceConnect, TraceConnectLayer};
use nettrace::request::{TraceBody, TraceRequestLayer};
use nettrace::wire::{TraceWire, TraceWireLayer};
use nettrace::{Client, TraceSink};
use tower::util::BoxCloneSyncService;
use tower::{Layer as _, Service, ServiceExt as _};

use test_support::raw::{End, Seen, Server};

use crate::from_the_wire::{WIRE, assert_same_records};

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;
/// The body of a request.
pub(crate) type Payload = BoxBody<Bytes, BoxError>;
/// The response, of the same type for every client.
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;
pub(crate) type AnyClient = BoxCloneSyncService<Request<Payload>, Answer, BoxError>;

/// A client, traced in one way or untraced.
pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) client: AnyClient,
    pub(crate) sink: TraceSink,
}

impl Variant {
    /// Returns `true` if requests are recorded.
    pub(crate) fn is_traced(&self) -> bool {
        !matches!(self.name, "untraced" | "disabled sink")
    }

    /// Returns `true` if requests are recorded where they are made.
    pub(crate) fn has_request_layer(&self) -> bool {
        self.is_traced() && self.name != WIRE
    }
}

/// Returns every variant, the untraced one first.
pub(crate) fn variants(h2: bool) -> Vec<Variant> {
    let sink = TraceSink::new;
    let disabled = TraceSink::disabled();
    let [bare, listening, own, boxed, preset, wire] = [(); 6].map(|()| sink());
    vec![
        variant("untraced", &disabled, pool::<_, Payload>(h2, HttpConnector::new())),
        variant("layers", &bare, TraceRequestLayer::new(&bare).layer(traced_pool(h2, &bare))),
        variant(
            "layers that listen",
            &listening,
            TraceRequestLayer::new(&listening)
                .capture_connection(true)
                .informational(true)
                .layer(traced_pool(h2, &listening)),
        ),
        variant(
            "own connector",
            &own,
            TraceRequestLayer::new(&own).layer(pool::<_, TraceBody<Payload>>(h2, TcpConnector::new(&own))),
        ),
        variant(
            "boxed body",
            &boxed,
            TraceRequestLayer::new(&boxed).boxed(|body: TraceBody<Payload>| body.boxed()).layer(pool::<
                _,
                Payload,
            >(
                h2,
                TraceConnectLayer::new(&boxed).layer(HttpConnector::new()),
            )),
        ),
        variant(
            "disabled sink",
            &disabled,
            TraceRequestLayer::new(&disabled).layer(traced_pool(h2, &disabled)),
        ),
        variant("preset", &preset, preset_of(&preset, h2)),
        variant(WIRE, &wire, pool::<_, Payload>(h2, wire_connector(&wire))),
    ]
}

/// Returns a preset client that adds nothing to requests and follows no redirects.
fn preset_of(sink: &TraceSink, h2: bool) -> Client {
    let version = if h2 { HttpVersion::Http2Only } else { HttpVersion::Http1Only };
    let builder = Client::builder(sink).http_version(version).compression(false).user_agent(None);
    builder.max_redirects(0).build().expect("a client")
}

fn traced_pool(
    h2: bool,
    sink: &TraceSink,
) -> legacy::Client<nettrace::connect::TraceConnect<HttpConnector>, TraceBody<Payload>> {
    pool(h2, TraceConnectLayer::new(sink).layer(HttpConnector::new()))
}

fn wire_connector(sink: &TraceSink) -> TraceWire<TraceConnect<HttpConnector>> {
    TraceWireLayer::new(sink).layer(TraceConnectLayer::new(sink).layer(HttpConnector::new()))
}

fn pool<C, B>(h2: bool, connector: C) -> legacy::Client<C, B>
where
    C: legacy::connect::Connect + Clone,
    B: http_body::Body + Send,
    B::Data: Send,
{
    legacy::Client::builder(TokioExecutor::new()).http2_only(h2).build(connector)
}

fn variant<S, B>(name: &'static str, sink: &TraceSink, client: S) -> Variant
where
    S: Service<Request<Payload>, Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let client = client
        .map_response(|response: Response<B>| response.map(|body| body.map_err(Into::into).boxed_unsync()))
        .map_err(Into::into);
    Variant { name, client: BoxCloneSyncService::new(client), sink: sink.clone() }
}

/// Everything that a caller can see of a response.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Received,
}

/// Everything that a reader can see of a body.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Received {
    /// The lower and upper size hint and `is_end_stream`, before the first and after the last frame.
    pub(crate) hints: [(u64, Option<u64>, bool); 2],
    pub(crate) data: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
    /// The texts of the error that ended the body, and of its sources.
    pub(crate) error: Vec<String>,
}

/// Makes the request and reads the response to its end.
///
/// # Errors
///
/// Returns the texts of all errors in the chain.
pub(crate) async fn exchange(client: &AnyClient, request: Request<Payload>) -> Result<Outcome, Vec<String>> {
    let response = client.clone().oneshot(request).await.map_err(|error| chain(&*error))?;
    Ok(outcome(response).await)
}

pub(crate) async fn outcome(response: Answer) -> Outcome {
    let (mut head, body) = response.into_parts();
    head.headers.remove("date");
    Outcome { status: head.status, version: head.version, headers: head.headers, body: receive(body).await }
}

async fn receive(mut body: UnsyncBoxBody<Bytes, BoxError>) -> Received {
    fn hints(body: &UnsyncBoxBody<Bytes, BoxError>) -> (u64, Option<u64>, bool) {
        let hint = body.size_hint();
        (hint.lower(), hint.upper(), body.is_end_stream())
    }
    let mut received = Received::default();
    received.hints[0] = hints(&body);
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => received.data.extend(data),
            Ok(Err(frame)) => received.trailers = frame.into_trailers().ok(),
            Err(error) => {
                received.error = chain(&*error);
                break;
            }
        }
    }
    received.hints[1] = hints(&body);
    received
}

/// Returns the texts of the error and its sources, without the error type of the client itself.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    let is_own = error.is::<nettrace::client::ClientError>() || error.is::<legacy::Error>();
    test_support::errors::chain(error).split_off(usize::from(is_own))
}

/// Runs the scenario with every variant against the server, and asserts that caller and server see the same each time.
/// Returns the variants, the outcome of the untraced one, and the connections that the server saw.
pub(crate) async fn same<T: std::fmt::Debug + PartialEq>(
    server: &Server,
    scenario: impl AsyncFn(&AnyClient) -> T,
) -> (Vec<Variant>, T, Vec<Seen>) {
    let mut reference = None;
    let mut variants = variants(false);
    let mut before = server.seen().len();
    for variant in &mut variants {
        let outcome = scenario(&variant.client).await;
        // Dropping the last clone of the client closes its connections.
        variant.client = failing_client();
        let accepted = server.seen().len();
        let mut seen = server.ended(accepted).await.split_off(before);
        before = accepted;
        let reads =
            |seen: &Seen| (String::from_utf8_lossy(&seen.received).into_owned(), seen.sent, seen.end.clone());
        match &reference {
            None => reference = Some((outcome, seen)),
            Some((expected, saw)) => {
                assert_eq!(&outcome, expected, "{}", variant.name);
                let (seen, saw): (Vec<_>, Vec<_>) =
                    (seen.drain(..).map(|seen| reads(&seen)).collect(), saw.iter().map(reads).collect());
                assert_eq!(seen, saw, "{}", variant.name);
            }
        }
    }
    assert_same_records(&variants);
    let (outcome, seen) = reference.expect("an untraced variant");
    assert!(seen.iter().all(|seen| seen.end != End::Open));
    (variants, outcome, seen)
}

fn failing_client() -> AnyClient {
    BoxCloneSyncService::new(tower::service_fn(|_| async { Err::<Answer, _>("gone".into()) }))
}

pub(crate) fn empty() -> Payload {
    Empty::new().map_err(never).boxed()
}

/// Returns a body of one frame, whose length is known.
pub(crate) fn full(data: impl Into<Bytes>) -> Payload {
    Full::new(data.into()).map_err(never).boxed()
}

/// Returns a body of one frame per piece, of unknown length, with trailers.
pub(crate) fn stream(data: &'static [&'static str], trailers: Option<HeaderMap>) -> Payload {
    let data = data.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
    let frames: Vec<Result<_, BoxError>> = data.chain(trailers.map(|map| Ok(Frame::trailers(map)))).collect();
    StreamBody::new(futures_util::stream::iter(frames)).boxed()
}

/// A body that yields at most one frame, and then stays pending.
pub(crate) struct Endless(pub(crate) Option<Bytes>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.0.take() {
            Some(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None => Poll::Pending,
        }
    }
}

/// An empty body whose `is_end_stream` returns `false`.
pub(crate) struct Hollow;

impl http_body::Body for Hollow {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}

fn never(never: Infallible) -> BoxError {
    match never {}
}

pub(crate) fn request(method: &str, server: &Server, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://{}{path}", server.addr()))
}
