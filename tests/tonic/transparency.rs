//! A traced channel behaves as an untraced one: the server receives the same requests, and the caller gets the same
//! outcomes.
//!
//! The scenarios cover the subjects of tonic's own tests: errors, metadata, timeouts, limits, reconnects, streams and
//! interceptors. Most of them run over each of the [`VARIANTS`].

use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::fmt::Debug;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use hyper_util::client::legacy::connect::HttpConnector;
use nettrace::TraceSink;
use nettrace::connect::TraceConnectLayer;
use nettrace::tonic as traced;
use tonic::body::Body;
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tower::util::BoxCloneSyncService;
use tower::{Layer as _, Service, ServiceExt as _};

use crate::greeter::{GreeterClient, Name};
use crate::servers::ReservedPort;
use test_support::errors::{chain, io_kind};
use test_support::raw::Refused;
use test_support::web::{ReceivedRequest, Web, reply};

type BoxError = Box<dyn Error + Send + Sync>;
type AnyChannel =
    BoxCloneSyncService<http::Request<Body>, http::Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError>;
type Greeter = GreeterClient<AnyChannel>;

/// How channels are created.
const VARIANTS: [&str; 4] = ["untraced", "own connector", "layers", "disabled sink"];

fn lazy(variant: &str, endpoint: Endpoint) -> AnyChannel {
    lazy_with(&TraceSink::new(), variant, endpoint)
}

fn lazy_with(sink: &TraceSink, variant: &str, endpoint: Endpoint) -> AnyChannel {
    match variant {
        "untraced" => box_channel(endpoint.connect_lazy()),
        "own connector" => box_channel(traced::connect_lazy(sink, endpoint)),
        "layers" => box_channel(traced::connect_with_connector_lazy(sink, endpoint, foreign(sink))),
        _ => box_channel(traced::connect_lazy(&TraceSink::disabled(), endpoint)),
    }
}

async fn eager(variant: &str, endpoint: Endpoint) -> Result<AnyChannel, tonic::transport::Error> {
    let sink = TraceSink::new();
    Ok(match variant {
        "untraced" => box_channel(endpoint.connect().await?),
        "own connector" => box_channel(traced::connect(&sink, endpoint).await?),
        "layers" => box_channel(traced::connect_with_connector(&sink, endpoint, foreign(&sink)).await?),
        _ => box_channel(traced::connect(&TraceSink::disabled(), endpoint).await?),
    })
}

fn foreign(sink: &TraceSink) -> nettrace::connect::TraceConnect<HttpConnector> {
    TraceConnectLayer::new(sink).layer(HttpConnector::new())
}

fn box_channel<S, B>(channel: S) -> AnyChannel
where
    S: Service<http::Request<Body>, Response = http::Response<B>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let unified = channel
        .map_response(|response: http::Response<B>| {
            response.map(|body| body.map_err(Into::into).boxed_unsync())
        })
        .map_err(Into::into);
    BoxCloneSyncService::new(unified)
}

/// Asserts that the scenario has the same outcome with lazy and connected channels of all variants, and returns it.
async fn assert_same<T: Debug + PartialEq>(
    endpoint: impl Fn() -> Endpoint,
    scenario: impl AsyncFn(Greeter) -> T,
) -> T {
    let mut reference = None;
    for variant in VARIANTS {
        let connected = eager(variant, endpoint()).await.map_err(|error| chain(&error));
        for (kind, channel) in [("lazy", Ok(lazy(variant, endpoint()))), ("eager", connected)] {
            let channel = channel.unwrap_or_else(|error| panic!("{variant}: {error:?}"));
            let outcome = scenario(GreeterClient::new(channel)).await;
            match &reference {
                None => reference = Some(outcome),
                Some(expected) => assert_eq!(&outcome, expected, "{variant}, {kind}"),
            }
        }
    }
    reference.expect("an untraced variant")
}

/// Everything that a caller can see of a status.
#[derive(Debug, PartialEq)]
struct Failed {
    code: Code,
    message: String,
    metadata: BTreeMap<String, String>,
    sources: Vec<String>,
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Failed {
            code: status.code(),
            message: status.message().into(),
            metadata: metadata(status.metadata()),
            sources: status.source().map(chain).unwrap_or_default(),
        }
    }
}

fn metadata(map: &MetadataMap) -> BTreeMap<String, String> {
    let text = |entry: KeyAndValueRef<'_>| match entry {
        KeyAndValueRef::Ascii(key, value) => (key.to_string(), format!("{value:?}")),
        KeyAndValueRef::Binary(key, value) => (key.to_string(), format!("{value:?}")),
    };
    map.iter().map(text).filter(|(key, _)| key != "date").collect()
}

#[tokio::test]
async fn messages_and_metadata_are_the_same() {
    let place = ReservedPort::new();
    let _server = place.serve();
    let (text, metadata) = assert_same(
        || place.endpoint(),
        async |mut client| {
            let response = client.greet(Name::of("Ada")).await.unwrap();
            (response.get_ref().text.clone(), metadata(response.metadata()))
        },
    )
    .await;
    assert_eq!(text, "hello Ada");
    // The metadata includes the trailers.
    assert!(metadata.contains_key("content-type") && metadata.contains_key("grpc-status"), "{metadata:?}");
}

#[tokio::test]
async fn error_statuses_are_the_same() {
    let place = ReservedPort::new();
    let _server = place.serve();
    for (name, code) in [("", Code::InvalidArgument), ("nobody", Code::NotFound)] {
        let failed = assert_same(
            || place.endpoint(),
            async |mut client| client.greet(Name::of(name)).await.map(drop).map_err(Failed::from),
        )
        .await
        .unwrap_err();
        assert_eq!((failed.code, failed.sources.len()), (code, 0));
    }
}

#[tokio::test]
async fn streamed_messages_and_trailers_are_the_same() {
    let place = ReservedPort::new();
    let _server = place.serve();
    let (all, received) = assert_same(
        || place.endpoint(),
        async |mut client| {
            let names = || stream::iter(["Ada", "Grace", "nobody", "Barbara"].map(Name::of));
            let all = client.greet_all(names()).await.unwrap().into_inner().text;
            let mut greetings = client.chat(names()).await.unwrap().into_inner();
            let mut received = Vec::new();
            let failed = loop {
                match greetings.message().await {
                    Ok(greeting) => received.push(greeting.map(|greeting| greeting.text)),
                    Err(status) => break Failed::from(status),
                }
            };
            let after = greetings.message().await.map_err(Failed::from).map(|greeting| greeting.is_none());
            let trailers =
                greetings.trailers().await.map(|map| map.as_ref().map(metadata)).map_err(Failed::from);
            (all, (received, failed, after, trailers))
        },
    )
    .await;
    assert_eq!(all, "hello Ada, Grace, nobody, Barbara");
    assert_eq!((received.0.len(), received.1.code), (2, Code::NotFound));
}

/// Compares whole requests, including header fields and trailers.
#[tokio::test]
async fn the_server_receives_the_same_requests() {
    let web = Web::start(async |_| {
        let mut response = reply("");
        response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        response.headers_mut().insert("grpc-status", "7".parse().unwrap());
        response
    });
    let endpoint = || Endpoint::from_shared(web.url("")).unwrap().user_agent("greeter/1").unwrap();
    let origin = || endpoint().origin("https://elsewhere.test".parse().unwrap());
    for endpoint in [&endpoint as &dyn Fn() -> Endpoint, &origin] {
        let received = assert_same(endpoint, async |mut client| {
            let mut request = Request::new(Name::of("Ada"));
            request.set_timeout(Duration::from_secs(5));
            request.metadata_mut().insert("x-mine", "1".parse().unwrap());
            request.metadata_mut().append("x-mine", "2".parse().unwrap());
            client.greet(request).await.unwrap_err();
            let ReceivedRequest { method, uri, version, headers, body, trailers, .. } =
                web.requests().pop().unwrap();
            (method, uri, version, headers, body, trailers)
        })
        .await;
        let headers: &HeaderMap = &received.3;
        assert!(headers["user-agent"].to_str().unwrap().starts_with("greeter/1 tonic/"));
        assert!(headers.contains_key("grpc-timeout") && headers["te"] == "trailers");
        assert_eq!(received.4.len(), 5 + 7);
    }
}

/// A rejected call does not reach the channel, so it is not recorded. The next call is.
#[tokio::test]
async fn an_interceptor_can_reject_calls() {
    let place = ReservedPort::new();
    let _server = place.serve();
    for variant in VARIANTS {
        let sink = TraceSink::new();
        let channel = lazy_with(&sink, variant, place.endpoint());
        let refuse = |_: Request<()>| Err::<Request<()>, _>(Status::unauthenticated("no token"));
        let mut client = GreeterClient::new(InterceptedService::new(channel.clone(), refuse));
        let status = client.greet(Name::of("Ada")).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "no token"), "{variant}");
        let trace = sink.snapshot("rejected");
        assert_eq!((trace.http_requests.len(), trace.dials.len()), (0, 0), "{variant}");
        GreeterClient::new(channel).greet(Name::of("Ada")).await.unwrap();
        let trace = sink.snapshot("accepted");
        let expected = usize::from(matches!(variant, "own connector" | "layers"));
        assert_eq!((trace.http_requests.len(), trace.dials.len()), (expected, expected), "{variant}");
    }
}

#[tokio::test]
async fn an_endpoint_timeout_has_the_same_status() {
    let place = ReservedPort::new();
    let _server = place.serve();
    let failed = assert_same(
        || place.endpoint().timeout(Duration::from_millis(10)),
        async |mut client| client.greet(Name::of("never")).await.map(drop).map_err(Failed::from),
    )
    .await
    .unwrap_err();
    assert_eq!((failed.code, failed.message.as_str()), (Code::Cancelled, "Timeout expired"));
}

#[tokio::test]
async fn a_message_that_is_too_large_has_the_same_status() {
    let place = ReservedPort::new();
    let _server = place.serve();
    let failed = assert_same(
        || place.endpoint(),
        async |client| {
            let mut client = client.max_decoding_message_size(8);
            client.greet(Name::of("Ada")).await.map(drop).map_err(Failed::from)
        },
    )
    .await
    .unwrap_err();
    assert_eq!(failed.code, Code::OutOfRange);
}

/// The endpoint limits the concurrency and the buffer. The calls share one connection.
#[tokio::test]
async fn concurrent_calls_share_a_connection() {
    let place = ReservedPort::new();
    let _server = place.serve();
    let outcome = assert_same(
        || place.endpoint().concurrency_limit(2).buffer_size(4),
        async |client| {
            let calls = (0..16).map(|_| {
                let mut client = client.clone();
                async move { client.greet(Name::of("Ada")).await.unwrap().into_inner().port }
            });
            let ports = futures_util::future::join_all(calls).await;
            (ports.len(), ports.into_iter().collect::<HashSet<_>>().len())
        },
    )
    .await;
    assert_eq!(outcome, (16, 1), "calls and connections");
}

/// The connector's I/O error is in the error chain, whichever connector is used.
#[tokio::test]
async fn a_refused_connection_has_the_same_error_kind() {
    let refused = Refused::on("127.0.0.1:0");
    let endpoint = || Endpoint::from_shared(format!("http://{}", refused.addr)).unwrap();
    let mut reference = None;
    for variant in VARIANTS {
        let error = eager(variant, endpoint()).await.expect_err("no connection");
        let status = GreeterClient::new(lazy(variant, endpoint())).greet(Name::of("Ada")).await.unwrap_err();
        let kinds = (io_kind(&error), status.source().and_then(io_kind));
        assert_eq!(
            kinds,
            (Some(io::ErrorKind::ConnectionRefused), Some(io::ErrorKind::ConnectionRefused)),
            "{variant}"
        );
        assert_eq!(status.code(), Code::Unavailable, "{variant}");
        // The texts of this crate's own connector differ.
        if !matches!(variant, "own connector" | "disabled sink") {
            let texts = (chain(&error), Failed::from(status));
            assert_eq!(
                reference.get_or_insert_with(|| (chain(&error), texts.1.sources.clone())),
                &(texts.0, texts.1.sources),
                "{variant}"
            );
        }
    }
}

/// After its server has restarted, a channel reconnects at the next call or at the one after it.
#[tokio::test]
async fn a_channel_reconnects_after_a_restart() {
    let place = ReservedPort::new();
    for variant in VARIANTS {
        let mut server = place.serve();
        let mut client = GreeterClient::new(lazy(variant, place.endpoint()));
        let mut ports = vec![client.greet(Name::of("Ada")).await.unwrap().into_inner().port];
        for _ in 0..3 {
            drop(server);
            server = place.serve();
            let port = match client.greet(Name::of("Ada")).await {
                Ok(greeting) => greeting.into_inner().port,
                Err(_) => client.greet(Name::of("Ada")).await.unwrap().into_inner().port,
            };
            assert!(!ports.contains(&port), "{variant}");
            ports.push(port);
        }
    }
}

/// A traced channel implements the traits of tonic's channel.
#[test]
fn traced_channels_implement_the_traits_of_tonics_channel() {
    fn has_traits<T: Clone + Send + Sync + Unpin + Debug + 'static>() {}
    has_traits::<Channel>();
    has_traits::<traced::Channel>();
}
