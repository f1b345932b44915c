//! gRPC clients over services other than a traced channel, and over Unix sockets.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::{Client as Pool, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nettrace::client::HttpVersion;
use nettrace::connect::TraceConnectLayer;
use nettrace::record::EndReason;
use nettrace::request::{TraceBody, TraceRequestLayer};
use nettrace::tonic::{connect, connect_lazy, connect_with_connector, layer};
use nettrace::{Client, HeaderCapture, RequestHandle, TraceSink};
use tokio::net::{UnixListener, UnixStream};
use tonic::client::GrpcService;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, body::Body};
use tower::Layer as _;
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::Constant;

use crate::greeter::{GreeterClient, GreeterServer, Greetings, Name};
use crate::servers::{ReservedPort, assert_linked, call, closed, link};
use test_support::check;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Makes one call over any gRPC service. Returns the client port that the server saw, or the status code.
async fn greet<T>(client: &mut GreeterClient<T>, name: &str) -> (RequestHandle, Result<u16, Code>)
where
    T: GrpcService<Body>,
    T::Error: Into<BoxError>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<BoxError> + Send,
{
    let (handle, request) = call(Name::of(name));
    let answer = client.greet(request).await;
    (handle, answer.map(|answer| answer.into_inner().port as u16).map_err(|status| status.code()))
}

/// Checks the records of calls before and after a restart of the server. Each time one call succeeds and one fails.
async fn check_calls<T>(sink: &TraceSink, place: &ReservedPort, mut client: GreeterClient<T>)
where
    T: GrpcService<Body>,
    T::Error: Into<BoxError>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<BoxError> + Send,
{
    let mut ports = HashSet::new();
    for _ in 0..2 {
        let _server = place.serve();
        let (mut call, mut port) = greet(&mut client, "Ada").await;
        while port.is_err() {
            (call, port) = greet(&mut client, "Ada").await;
        }
        let trace = sink.snapshot("");
        let record = assert_linked(&trace, &call, port.unwrap());
        assert_eq!(record.grpc_status, Some(0));
        assert_eq!(record.req_url, format!("{}/greeter.Greeter/Greet", place.url()));
        ports.insert(port.unwrap());
        let (call, outcome) = greet(&mut client, "nobody").await;
        let trace = sink.snapshot("");
        let record = assert_linked(&trace, &call, port.unwrap());
        assert_eq!((outcome, record.grpc_status), (Err(Code::NotFound), Some(5)));
        assert_eq!(record.grpc_message, "nobody is here, 100% sure: ☹");
    }
    assert_eq!(ports.len(), 2);
    drop(client);
    check::finished(&closed(sink).await);
}

/// Returns a sink that captures header values, and gRPC messages with them.
fn sink_with_header_values() -> TraceSink {
    TraceSink::builder().headers(HeaderCapture::Values).build()
}

#[tokio::test]
async fn calls_over_hyper_utils_client_are_linked() {
    let (place, sink) = (ReservedPort::new(), sink_with_header_values());
    let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
    let pool: Pool<_, TraceBody<Body>> =
        Pool::builder(TokioExecutor::new()).http2_only(true).build(connector);
    let pool = TraceRequestLayer::new(&sink).capture_connection(true).layer(pool);
    let client = GreeterClient::with_origin(pool, place.url().parse().unwrap());
    check_calls(&sink, &place, client).await;
}

/// The preset client does not enforce the deadline of a call. The server does.
#[tokio::test]
async fn a_deadline_enforced_by_the_server_is_recorded_as_its_status() {
    let (place, sink) = (ReservedPort::new(), sink_with_header_values());
    let _server = place.serve();
    let preset = Client::builder(&sink).http_version(HttpVersion::Http2Only).build().unwrap();
    let mut client = GreeterClient::with_origin(preset, place.url().parse().unwrap());
    let (call, mut request) = call(Name::of("never"));
    request.set_timeout(Duration::from_millis(1));
    assert_eq!(client.greet(request).await.unwrap_err().code(), Code::Cancelled);
    let trace = sink.snapshot("");
    let (record, conn) = link(&trace, &call);
    assert_eq!((record.grpc_status, record.grpc_message.as_str()), (Some(1), "Timeout expired"));
    assert_eq!((&record.end_reason, conn.is_some()), (&Some(EndReason::Closed), true));
}

#[tokio::test]
async fn calls_over_the_preset_client_are_linked() {
    let (place, sink) = (ReservedPort::new(), sink_with_header_values());
    let preset = Client::builder(&sink).http_version(HttpVersion::Http2Only).build().unwrap();
    let client = GreeterClient::with_origin(preset, place.url().parse().unwrap());
    check_calls(&sink, &place, client).await;
}

#[tokio::test]
async fn calls_balanced_by_tower_are_linked() {
    let (places, sink) = ([ReservedPort::new(), ReservedPort::new()], TraceSink::new());
    let servers = places.each_ref().map(ReservedPort::serve);
    let channels = places.each_ref().map(|place| Constant::new(connect_lazy(&sink, place.endpoint()), 1));
    let mut client = GreeterClient::new(Balance::new(ServiceList::new::<http::Request<Body>>(channels)));
    let mut ports = HashSet::new();
    for i in 0.. {
        let (call, port) = greet(&mut client, "Ada").await;
        let trace = sink.snapshot("");
        let record = assert_linked(&trace, &call, port.unwrap());
        assert!(places.iter().any(|place| record.req_url.starts_with(&place.url())));
        ports.insert(port.unwrap());
        // Channels are chosen at random. That 128 calls never choose one of them is practically impossible.
        if ports.len() == 2 && i > 16 {
            break;
        }
        assert!(i < 128);
    }
    drop((client, servers));
    check::finished(&closed(&sink).await);
}

/// tonic dials the connections of a balanced channel itself, so calls are recorded without a connection.
#[tokio::test]
async fn calls_balanced_by_tonic_are_not_linked() {
    let (places, sink) = ([ReservedPort::new(), ReservedPort::new()], TraceSink::new());
    let _servers = places.each_ref().map(ReservedPort::serve);
    let channel = Channel::balance_list(places.iter().map(ReservedPort::endpoint));
    let mut client = GreeterClient::new(layer(&sink).layer(channel));
    for _ in 0..8 {
        let (call, port) = greet(&mut client, "Ada").await;
        assert!(port.is_ok());
        let trace = sink.snapshot("");
        let (record, conn) = link(&trace, &call);
        assert_eq!((record.grpc_status, conn.is_none()), (Some(0), true));
    }
    check::finished(&sink.snapshot(""));
}

fn serve_unix(path: &Path) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(path).unwrap();
    let incoming = futures_util::stream::unfold(listener, async |listener| {
        Some((listener.accept().await.map(|(stream, _)| stream), listener))
    });
    tokio::spawn(async move {
        Server::builder()
            .add_service(GreeterServer::new(Greetings))
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    })
}

#[tokio::test]
async fn calls_over_a_unix_socket_are_linked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("greeter.sock");
    let server = serve_unix(&path);
    let sink = TraceSink::new();
    let socket = path.clone();
    let unix = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://greeter.test");
    let connector = TraceConnectLayer::new(&sink).layer(unix);
    let mut client = GreeterClient::new(connect_with_connector(&sink, endpoint, connector).await.unwrap());
    let (call, outcome) = greet(&mut client, "Ada").await;
    assert!(outcome.is_ok());
    let trace = sink.snapshot("");
    let (record, conn) = link(&trace, &call);
    assert_eq!(*conn.expect("a connection").unix_path, path.to_str().unwrap());
    assert_eq!(record.req_url, "http://greeter.test/greeter.Greeter/Greet");
    drop(client);
    check::finished(&closed(&sink).await);

    // tonic connects `unix:` endpoints itself and does not expose their path, so these calls are not linked.
    sink.clear();
    let endpoint = Endpoint::from_shared(format!("unix:{}", path.display())).unwrap();
    for channel in [connect(&sink, endpoint.clone()).await.unwrap(), connect_lazy(&sink, endpoint)] {
        let (call, outcome) = greet(&mut GreeterClient::new(channel), "Ada").await;
        assert!(outcome.is_ok());
        assert!(link(&sink.snapshot(""), &call).1.is_none());
    }
    server.abort();
}
