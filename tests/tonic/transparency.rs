//! A traced channel behaves as tonic's own: the same for the server, the same for the caller.
//!
//! The subjects of tonic's own tests (errors, metadata, timeouts, limits, reconnects, streams, interceptors),
//! as scenarios for each way of creating a channel.

use std::collections::BTreeMap;
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
use test_support::raw::Refused;
use test_support::web::{Asked, Web, reply};

type BoxError = Box<dyn Error + Send + Sync>;
type AnyChannel =
    BoxCloneSyncService<http::Request<Body>, http::Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError>;
type Greeter = GreeterClient<AnyChannel>;

const WAYS: [&str; 4] = ["untraced", "own connector", "layers", "disabled sink"];

fn lazy(way: &str, endpoint: Endpoint) -> AnyChannel {
    let sink = TraceSink::new();
    match way {
        "untraced" => any(endpoint.connect_lazy()),
        "own connector" => any(traced::connect_lazy(&sink, endpoint)),
        "layers" => any(traced::connect_with_connector_lazy(&sink, endpoint, foreign(&sink))),
        _ => any(traced::connect_lazy(&TraceSink::disabled(), endpoint)),
    }
}

async fn eager(way: &str, endpoint: Endpoint) -> Result<AnyChannel, tonic::transport::Error> {
    let sink = TraceSink::new();
    Ok(match way {
        "untraced" => any(endpoint.connect().await?),
        "own connector" => any(traced::connect(&sink, endpoint).await?),
        "layers" => any(traced::connect_with_connector(&sink, endpoint, foreign(&sink)).await?),
        _ => any(traced::connect(&TraceSink::disabled(), endpoint).await?),
    })
}

fn foreign(sink: &TraceSink) -> nettrace::connect::TraceConnect<HttpConnector> {
    TraceConnectLayer::new(sink).layer(HttpConnector::new())
}

fn any<S, B>(channel: S) -> AnyChannel
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

/// The scenario in every way comes to the same; what that is.
async fn same<T: Debug + PartialEq>(
    endpoint: impl Fn() -> Endpoint,
    scenario: impl AsyncFn(Greeter) -> T,
) -> T {
    let mut reference = None;
    for way in WAYS {
        let connected = eager(way, endpoint()).await.map_err(|error| chain(&error));
        for (kind, channel) in [("lazy", Ok(lazy(way, endpoint()))), ("eager", connected)] {
            let channel = channel.unwrap_or_else(|error| panic!("{way}: {error:?}"));
            let outcome = scenario(GreeterClient::new(channel)).await;
            match &reference {
                None => reference = Some(outcome),
                Some(expected) => assert_eq!(&outcome, expected, "{way}, {kind}"),
            }
        }
    }
    reference.expect("an untraced way")
}

fn chain(error: &dyn Error) -> Vec<String> {
    let mut all = vec![error.to_string()];
    let mut next = error.source();
    while let Some(error) = next {
        all.push(error.to_string());
        next = error.source();
    }
    all
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
async fn messages_and_metadata() {
    let place = ReservedPort::new();
    let _server = place.serve();
    let (text, metadata) = same(
        || place.endpoint(),
        async |mut client| {
            let response = client.greet(Name::of("Ada")).await.unwrap();
            (response.get_ref().text.clone(), metadata(response.metadata()))
        },
    )
    .await;
    assert_eq!(text, "hello Ada");
    // Those of the trailers among them.
    assert!(metadata.contains_key("content-type") && metadata.contains_key("grpc-status"), "{metadata:?}");
}

#[tokio::test]
async fn statuses() {
    let place = ReservedPort::new();
    let _server = place.serve();
    for (name, code) in [("", Code::InvalidArgument), ("nobody", Code::NotFound)] {
        let failed = same(
            || place.endpoint(),
            async |mut client| client.greet(Name::of(name)).await.map(drop).map_err(Failed::from),
        )
        .await
        .unwrap_err();
        assert_eq!((failed.code, failed.sources.len()), (code, 0));
    }
}

#[tokio::test]
async fn streams() {
    let place = ReservedPort::new();
    let _server = place.serve();
    let (all, heard) = same(
        || place.endpoint(),
        async |mut client| {
            let names = || stream::iter(["Ada", "Grace", "nobody", "Barbara"].map(Name::of));
            let all = client.greet_all(names()).await.unwrap().into_inner().text;
            let mut greetings = client.chat(names()).await.unwrap().into_inner();
            let mut heard = Vec::new();
            let failed = loop {
                match greetings.message().await {
                    Ok(greeting) => heard.push(greeting.map(|greeting| greeting.text)),
                    Err(status) => break Failed::from(status),
                }
            };
            let after = greetings.message().await.map_err(Failed::from).map(|greeting| greeting.is_none());
            let trailers =
                greetings.trailers().await.map(|map| map.as_ref().map(metadata)).map_err(Failed::from);
            (all, (heard, failed, after, trailers))
        },
    )
    .await;
    assert_eq!(all, "hello Ada, Grace, nobody, Barbara");
    assert_eq!((heard.0.len(), heard.1.code), (2, Code::NotFound));
}

/// The requests that the server receives, including their header fields.
#[tokio::test]
async fn what_the_server_sees() {
    let web = Web::start(async |_| {
        let mut response = reply("");
        response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        response.headers_mut().insert("grpc-status", "7".parse().unwrap());
        response
    });
    let endpoint = || Endpoint::from_shared(web.url("")).unwrap().user_agent("greeter/1").unwrap();
    let origin = || endpoint().origin("https://elsewhere.test".parse().unwrap());
    for endpoint in [&endpoint as &dyn Fn() -> Endpoint, &origin] {
        let asked = same(endpoint, async |mut client| {
            let mut request = Request::new(Name::of("Ada"));
            request.set_timeout(Duration::from_secs(5));
            request.metadata_mut().insert("x-mine", "1".parse().unwrap());
            request.metadata_mut().append("x-mine", "2".parse().unwrap());
            client.greet(request).await.unwrap_err();
            let Asked { method, uri, version, headers, body, trailers, .. } = web.asked().pop().unwrap();
            (method, uri, version, headers, body, trailers)
        })
        .await;
        let headers: &HeaderMap = &asked.3;
        assert!(headers["user-agent"].to_str().unwrap().starts_with("greeter/1 tonic/"));
        assert!(headers.contains_key("grpc-timeout") && headers["te"] == "trailers");
        assert_eq!(asked.4.len(), 5 + 7);
    }
}

#[tokio::test]
async fn an_interceptor() {
    let place = ReservedPort::new();
    let _server = place.serve();
    for way in WAYS {
        let refuse = |_: Request<()>| Err::<Request<()>, _>(Status::unauthenticated("no token"));
        let mut client = GreeterClient::new(InterceptedService::new(lazy(way, place.endpoint()), refuse));
        let status = client.greet(Name::of("Ada")).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unauthenticated, "no token"), "{way}");
    }
}

#[tokio::test]
async fn timeouts() {
    let place = ReservedPort::new();
    let _server = place.serve();
    let failed = same(
        || place.endpoint().timeout(Duration::from_millis(10)),
        async |mut client| client.greet(Name::of("never")).await.map(drop).map_err(Failed::from),
    )
    .await
    .unwrap_err();
    assert_eq!((failed.code, failed.message.as_str()), (Code::Cancelled, "Timeout expired"));
}

#[tokio::test]
async fn messages_that_are_too_large() {
    let place = ReservedPort::new();
    let _server = place.serve();
    let failed = same(
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

/// Calls share a connection, and limits of the endpoint hold.
#[tokio::test]
async fn limits_and_sharing() {
    let place = ReservedPort::new();
    let _server = place.serve();
    same(
        || place.endpoint().concurrency_limit(2).buffer_size(4),
        async |client| {
            let calls = (0..16).map(|_| {
                let mut client = client.clone();
                async move { client.greet(Name::of("Ada")).await.unwrap().into_inner().port }
            });
            let ports = futures_util::future::join_all(calls).await;
            assert!(ports.iter().all(|port| *port == ports[0]), "{ports:?}");
        },
    )
    .await;
}

/// The error of the connector is the last of the chain, whatever the connector.
#[tokio::test]
async fn a_refused_connection() {
    fn kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(io) = error.downcast_ref::<io::Error>() {
                return Some(io.kind());
            }
            next = error.source();
        }
        None
    }
    let refused = Refused::on("127.0.0.1:0");
    let endpoint = || Endpoint::from_shared(format!("http://{}", refused.addr)).unwrap();
    let mut reference = None;
    for way in WAYS {
        let error = eager(way, endpoint()).await.expect_err("no connection");
        let status = GreeterClient::new(lazy(way, endpoint())).greet(Name::of("Ada")).await.unwrap_err();
        let kinds = (kind(&error), status.source().and_then(kind));
        assert_eq!(
            kinds,
            (Some(io::ErrorKind::ConnectionRefused), Some(io::ErrorKind::ConnectionRefused)),
            "{way}"
        );
        assert_eq!(status.code(), Code::Unavailable, "{way}");
        // Our own connector has other words for it.
        if !matches!(way, "own connector" | "disabled sink") {
            let said = (chain(&error), Failed::from(status));
            assert_eq!(
                reference.get_or_insert_with(|| (chain(&error), said.1.sources.clone())),
                &(said.0, said.1.sources),
                "{way}"
            );
        }
    }
}

/// A channel whose server was cut off connects anew, at the next call or the one after it.
#[tokio::test]
async fn reconnects() {
    let place = ReservedPort::new();
    for way in WAYS {
        let mut server = place.serve();
        let mut client = GreeterClient::new(lazy(way, place.endpoint()));
        let mut ports = vec![client.greet(Name::of("Ada")).await.unwrap().into_inner().port];
        for _ in 0..3 {
            drop(server);
            server = place.serve();
            let port = match client.greet(Name::of("Ada")).await {
                Ok(greeting) => greeting.into_inner().port,
                Err(_) => client.greet(Name::of("Ada")).await.unwrap().into_inner().port,
            };
            assert!(!ports.contains(&port), "{way}");
            ports.push(port);
        }
    }
}

/// A channel can be used from any thread, and its clones are the same channel.
#[test]
fn channels_are_shared_as_tonics_are() {
    fn is_shared<T: Clone + Send + Sync + Unpin + Debug + 'static>() {}
    is_shared::<Channel>();
    is_shared::<traced::Channel>();
}
