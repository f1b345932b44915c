//! Code that was written for an unwrapped client finds the same methods, bodies and error types on a wrapped one.

use std::error::Error as _;
use std::io;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, connect::HttpConnector, connect::dns::Name};
use hyper_util::rt::TokioExecutor;
use nettrace::connect::{ConnectError, TcpConnector, TraceConnect, TraceConnectLayer};
use nettrace::record::EndReason;
use nettrace::request::{TraceBody, TraceRequest, TraceRequestLayer, TraceResponseBody};
use nettrace::resolve::StubResolver;
use nettrace::{Failure, ResponseExt as _, TraceSink};
use tower::{Layer as _, ServiceExt as _};

use test_support::check;
use test_support::dns::DnsServer;
use test_support::raw::Refused;
use test_support::web::{ReceivedRequest, Web, reply, status};

fn web() -> Web {
    Web::start(async |request: ReceivedRequest| match request.path() {
        "/empty" => status(204),
        _ => reply(format!("{} {:?}", request.method, request.body)),
    })
}

type Wrapped = TraceRequest<Client<TraceConnect<HttpConnector>, TraceBody<Full<Bytes>>>>;

fn wrapped(sink: &TraceSink) -> Wrapped {
    let connector = TraceConnectLayer::new(sink).layer(HttpConnector::new());
    TraceRequestLayer::new(sink).layer(Client::builder(TokioExecutor::new()).build(connector))
}

/// `get` and `request` can be called as before, also through a shared reference.
#[tokio::test]
async fn a_wrapped_client_keeps_its_methods() {
    let web = web();
    let text = async |response: Response<Bytes>| (response.status(), response.into_body());
    let plain: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let sink = TraceSink::new();
    let wrapped = wrapped(&sink);
    let post = || Request::post(web.url("/")).body(Full::from("data")).unwrap();
    let (mut untraced, mut traced) = (Vec::new(), Vec::new());
    let (client, url) = (&plain, || web.url("/a").parse().unwrap());
    for response in [client.get(url()).await.unwrap(), client.request(post()).await.unwrap()] {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        untraced.push(text(Response::from_parts(head, body)).await);
    }
    let client = &wrapped;
    for response in [client.get(url()).await.unwrap(), client.request(post()).await.unwrap()] {
        assert!(response.request_handle().is_some());
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        traced.push(text(Response::from_parts(head, body)).await);
    }
    assert_eq!(untraced, traced);
    let trace = sink.snapshot("");
    let asked: Vec<_> = trace.http_requests.iter().map(|record| record.req_method.as_str()).collect();
    assert_eq!(asked, ["GET", "POST"]);
    assert!(trace.http_requests.iter().all(|record| record.end_reason == Some(EndReason::Closed)));
}

/// `into_inner` returns hyper's body. If data may follow, the record ends as unobserved.
#[tokio::test]
async fn into_inner_returns_hypers_body_and_ends_the_record() {
    let web = web();
    let sink = TraceSink::new();
    let client = wrapped(&sink);
    for (path, end, body, has_end) in
        [("/a", EndReason::Unobserved, "GET b\"\"", false), ("/empty", EndReason::Closed, "", true)]
    {
        let response = client.get(web.url(path).parse().unwrap()).await.unwrap();
        let handle = response.request_handle().unwrap().clone();
        let taken: Incoming = response.into_body().into_inner();
        let trace = handle.trace();
        let [record] = &trace.http_requests[..] else { panic!("expected one request") };
        assert_eq!((&record.end_reason, &record.failure), (&Some(end), &None));
        assert_eq!(!record.resp_body_end_at.is_undefined(), has_end);
        assert_eq!(taken.collect().await.unwrap().to_bytes(), body);
        assert_eq!(handle.trace().http_requests, trace.http_requests, "the record has ended");
        let drawn = nettrace::view::waterfall(&trace).to_string();
        assert!(drawn.contains(path) && drawn.contains("receive") == has_end, "{drawn}");
    }
    drop(client);
    check::running(&sink.snapshot(""));
    let off = wrapped(&TraceSink::disabled()).get(web.url("/a").parse().unwrap()).await.unwrap();
    assert_eq!(off.into_body().into_inner().collect().await.unwrap().to_bytes(), "GET b\"\"");
}

/// With `keep_response_body` the client's responses have the type that they have without the layer. A record ends with
/// the head of the response.
#[tokio::test]
async fn a_response_body_that_is_left_alone_is_hypers_own() {
    let web = web();
    for sink in [TraceSink::new(), TraceSink::disabled()] {
        let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
        let client: Client<_, TraceBody<Full<Bytes>>> =
            Client::builder(TokioExecutor::new()).build(connector);
        let client = TraceRequestLayer::new(&sink).keep_response_body().layer(client);
        let get = |path: &str| Request::get(web.url(path)).body(Full::default()).unwrap();
        let response: Response<Incoming> = client.request(get("/a")).await.unwrap();
        let handle = response.request_handle().cloned();
        assert_eq!(handle.is_some(), sink.is_enabled());
        let before = handle.as_ref().map(|handle| handle.trace().http_requests);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "GET b\"\"");
        assert_eq!(
            handle.map(|handle| handle.trace().http_requests),
            before,
            "the record ended with the head"
        );

        let empty: Response<Incoming> = client.clone().oneshot(get("/empty")).await.unwrap();
        assert_eq!(empty.status(), 204);
        drop(client);
        let trace = sink.snapshot("");
        check::running(&trace);
        if !sink.is_enabled() {
            continue;
        }
        let [with_body, without] = &trace.http_requests[..] else { panic!("expected two requests") };
        assert_eq!((&with_body.end_reason, with_body.resp_status_code), (&Some(EndReason::Unobserved), 200));
        assert!(with_body.resp_body_end_at.is_undefined() && !with_body.resp_recv_at.is_undefined());
        assert_eq!((&without.end_reason, without.resp_status_code), (&Some(EndReason::Closed), 204));
        assert!([with_body, without].iter().all(|request| request.tcp_conn == trace.tcp_conns[0].trace_id));
    }
}

#[tokio::test]
async fn a_request_that_fails_before_the_head_is_recorded_as_failed() {
    let (sink, refused) = (TraceSink::new(), Refused::on("127.0.0.1:0"));
    let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
    let client: Client<_, TraceBody<Full<Bytes>>> = Client::builder(TokioExecutor::new()).build(connector);
    let client = TraceRequestLayer::new(&sink).keep_response_body().layer(client);
    let request = Request::get(format!("http://{}/", refused.addr)).body(Full::default()).unwrap();
    assert!(client.request(request).await.expect_err("an error").is_connect());
    let trace = sink.snapshot("");
    assert_eq!(trace.http_requests[0].failure, Some(Failure::ConnectionRefused));
    check::finished(&trace);
}

#[tokio::test]
async fn the_default_body_is_empty() {
    let body = TraceResponseBody::<Empty<Bytes>>::default();
    assert!(http_body::Body::is_end_stream(&body));
    assert!(body.collect().await.unwrap().to_bytes().is_empty());
}

/// The kinds are those of the errors of tokio's `connect`, where tokio distinguishes them.
#[tokio::test]
async fn a_connect_error_converts_to_an_io_error() {
    let (refused, nobody) = (Refused::on("127.0.0.1:0"), DnsServer::answering(&[]).await);
    let sink = TraceSink::new();
    let resolver =
        StubResolver::builder(&sink).nameservers([nobody.addr()]).hosts_file(None).build().unwrap();
    let out_of_files = tower::service_fn(async |_: Name| {
        Err::<std::vec::IntoIter<std::net::SocketAddr>, _>(io::Error::from_raw_os_error(24))
    });
    let by_name = TcpConnector::new(&sink).resolver(resolver);
    let cases: [(Result<_, ConnectError>, io::ErrorKind); 4] = [
        (by_name.connect(refused.addr).await, io::ErrorKind::ConnectionRefused),
        (by_name.connect("nobody.test:1").await, io::ErrorKind::NotFound),
        (by_name.connect("no port").await, io::ErrorKind::InvalidInput),
        (
            TcpConnector::new(&sink).resolver(out_of_files).connect("a.test:1").await,
            io::Error::from_raw_os_error(24).kind(),
        ),
    ];
    for (result, kind) in cases {
        let error = result.expect_err("no connection");
        let (text, source) = (error.to_string(), error.source().map(ToString::to_string));
        let error = io::Error::from(error);
        assert_eq!((error.kind(), error.to_string()), (kind, text));
        assert_eq!(error.source().map(ToString::to_string), source);
        assert!(error.get_ref().is_some_and(|inner| inner.is::<ConnectError>()));
    }
}
