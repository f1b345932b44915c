//! The layers around hyper-util's connector and client. They see less than the preset `Client`, but their records are
//! correct.

use std::error::Error;
use std::net::TcpListener;

use bytes::Bytes;
use hickory_proto::op::ResponseCode;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{HttpConnector, dns::GaiResolver};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::TokioExecutor;
use nettrace::connect::{TraceConnect, TraceConnectLayer};
use nettrace::request::{TraceBody, TraceRequest, TraceRequestLayer, TraceResponseBody};
use nettrace::resolve::{StubResolver, TraceResolve};
use nettrace::{RequestHandle, TraceSink, view};
use tower::{Layer as _, Service as _};

use crate::fixture::{Fixture, Outcome, ended, hello_on, reached, stuck_after};
use test_support::dns::DnsServer;
use test_support::raw::{Refused, Server};

type Body = Empty<Bytes>;
type Traced = TraceRequest<Client<TraceConnect<HttpConnector<StubResolver>>, TraceBody<Body>>>;
type Answer = Result<Response<TraceResponseBody<Incoming>>, legacy::Error>;

const CANCELLED: (&str, &str) = ("cancelled", "interrupted");

#[tokio::test]
async fn a_refused_connection_fails_the_dial() {
    let (fixture, closed_port) = (Fixture::new().await, Refused::on("127.0.0.1:0"));
    let (error, outcome) = failed(&fixture, &format!("http://web.test:{}/", closed_port.addr.port())).await;
    outcome.assert_dial_failed("failed", "connection_refused");
    assert!(outcome.attempts().is_empty(), "hyper-util's connector does not show its attempts");
    assert_eq!(outcome.trace.dns_queries.len(), 2, "the resolver's queries belong to the dial");
    let drawing = view::waterfall(&outcome.trace).width(200).to_string();
    let row = |label| drawing.lines().find(|line| line.starts_with(label)).expect(label);
    assert!(row("  tcp ").ends_with(" · attempts not observed · ✗ connection_refused"), "{drawing}");
    assert!(!row("  dns ").contains('✗'), "{drawing}");
    let text = "tcp connect error: Connection refused (os error 111)";
    assert_eq!((outcome.request.req_error.as_str(), outcome.dial().dial_err.as_str()), (text, text));
    assert!(error.downcast_ref::<legacy::Error>().is_some_and(legacy::Error::is_connect), "{error:?}");
}

#[tokio::test]
async fn nxdomain_fails_the_dial() {
    let fixture = Fixture::with(DnsServer::start(|query| query.nothing(ResponseCode::NXDomain)).await);
    let (_, outcome) = failed(&fixture, "http://nx.test/").await;
    outcome.assert_dial_failed("failed", "dns_nxdomain_error");
    let dials: Vec<_> = outcome.trace.dns_queries.iter().map(|query| &query.from_dial).collect();
    assert_eq!(dials, [&outcome.dial().trace_id; 2], "both queries belong to the dial");
    assert!(outcome.request.req_error.ends_with("no such host"), "{}", outcome.request.req_error);
}

#[tokio::test]
async fn only_the_address_that_accepts_is_recorded_as_a_connection() {
    let closed_port = Refused::on("127.0.0.1:0");
    let listener = TcpListener::bind(("127.0.0.2", closed_port.addr.port())).expect("the port is free");
    let _server = hello_on(listener);
    let fixture = Fixture::with(DnsServer::answering(&["127.0.0.1", "127.0.0.2"]).await);
    let mut client = client(&fixture);
    let (answer, handle) = send(&mut client, &format!("http://web.test:{}/", closed_port.addr.port()));
    let body = answer.await.expect("a response").into_body().collect().await.expect("a body");
    assert_eq!(body.to_bytes(), "hello");
    let outcome = conclude(&fixture, client, &handle).await;
    assert_eq!(ended(&outcome.request), ("closed", ""));
    outcome.assert_on(outcome.conn());
    assert_eq!(outcome.conn().addr_tuple.dst_ip, "127.0.0.2");
    assert_eq!(outcome.conn().handshake_begin_at, outcome.dial().resolve_end_at, "approximated by the layer");
}

#[tokio::test]
async fn a_handshake_includes_the_lookup_of_an_untraced_resolver() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it listens").port();
    let _server = hello_on(listener);
    let traced = HttpConnector::new_with_resolver(TraceResolve::new(GaiResolver::new()));
    for (is_traced, sink) in [(false, TraceSink::new()), (true, TraceSink::new())] {
        let layer = TraceConnectLayer::new(&sink);
        let pool = Client::builder(TokioExecutor::new());
        let response = if is_traced {
            let client: Client<_, TraceBody<Body>> = pool.build(layer.layer(traced.clone()));
            let mut client = TraceRequestLayer::new(&sink).layer(client);
            client.call(Request::get(format!("http://localhost:{port}/")).body(Body::new()).unwrap()).await
        } else {
            let client: Client<_, TraceBody<Body>> = pool.build(layer.layer(HttpConnector::new()));
            let mut client = TraceRequestLayer::new(&sink).layer(client);
            client.call(Request::get(format!("http://localhost:{port}/")).body(Body::new()).unwrap()).await
        };
        response.expect("a response").into_body().collect().await.expect("a body");
        let trace = sink.snapshot("all");
        let (dial, conn, request) = (&trace.dials[0], &trace.tcp_conns[0], &trace.http_requests[0]);
        let begin = if is_traced { dial.resolve_end_at } else { dial.dial_begin_at };
        assert!(conn.handshake_begin_at == begin && !begin.is_undefined(), "{conn:#?} of {dial:#?}");
        let timings = request.timings(&trace);
        assert_eq!(
            (timings.dns.is_some(), timings.connect_includes_dns),
            (is_traced, !is_traced),
            "{timings}"
        );
        let drawing = view::waterfall(&trace).width(140).to_string();
        let row = format!("127.0.0.1:{port} · includes name lookup");
        assert_eq!(drawing.contains(&row), !is_traced, "{drawing}");
        assert_eq!(drawing.contains("\n  tcp+dns "), !is_traced, "{drawing}");
        assert_eq!(drawing.contains("\n  dns "), is_traced, "{drawing}");
    }
}

#[tokio::test]
async fn a_close_before_the_header_is_an_eof_error() {
    let fixture = Fixture::new().await;
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.close().await
    });
    let (error, outcome) = failed(&fixture, &fixture.http(&server)).await;
    assert_eq!(ended(&outcome.request), ("failed", "eof_error"));
    outcome.assert_on(outcome.conn());
    assert_eq!(ended(outcome.conn()), ("peer-closed", ""));
    assert!(!outcome.request.conn_acquired_at.is_undefined());
    assert!(
        error
            .source()
            .and_then(|error| error.downcast_ref())
            .is_some_and(hyper::Error::is_incomplete_message)
    );
}

#[tokio::test]
async fn a_close_within_the_body_is_an_eof_error() {
    let fixture = Fixture::new().await;
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf!").await?;
        conn.close().await
    });
    let (error, outcome) = failed(&fixture, &fixture.http(&server)).await;
    assert_eq!(ended(&outcome.request), ("failed", "eof_error"));
    outcome.assert_on(outcome.conn());
    assert_eq!((outcome.request.resp_status_code, outcome.request.resp_content_len), (200, 5));
    assert!(error.is::<hyper::Error>(), "the error of the body is not wrapped: {error:?}");
}

#[tokio::test]
async fn dropping_a_request_cancels_its_name_lookup() {
    let fixture = Fixture::with(DnsServer::silent().await);
    let mut client = client(&fixture);
    let (answer, handle) = send(&mut client, "http://web.test/");
    tokio::select! {
        answer = answer => panic!("{answer:?}"),
        () = fixture.nameserver.wait_for_queries(2) => {}
    }
    let outcome = conclude(&fixture, client, &handle).await;
    outcome.assert_dial_failed(CANCELLED.0, CANCELLED.1);
    let ends: Vec<_> = outcome.trace.dns_queries.iter().map(ended).collect();
    assert_eq!(ends, [CANCELLED; 2]);
}

#[tokio::test]
async fn dropping_a_request_that_waits_for_the_header_cancels_it() {
    let fixture = Fixture::new().await;
    let (server, asked) = stuck_after(async |conn| conn.read_head().await.map(drop));
    let mut client = client(&fixture);
    let (answer, handle) = send(&mut client, &fixture.http(&server));
    tokio::select! {
        answer = answer => panic!("{answer:?}"),
        () = asked.notified() => {}
    }
    let outcome = conclude(&fixture, client, &handle).await;
    assert_eq!(ended(&outcome.request), CANCELLED);
    outcome.assert_on(outcome.conn());
    assert_eq!(ended(outcome.conn()), ("closed", ""));
}

/// Creates a client of hyper-util with a traced connector and resolver.
fn client(fixture: &Fixture) -> Traced {
    let connector = HttpConnector::new_with_resolver(fixture.resolver().build().expect("nothing to read"));
    let connector = TraceConnectLayer::new(&fixture.sink).layer(connector);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    TraceRequestLayer::new(&fixture.sink).capture_connection(true).layer(client)
}

/// Sends a request. Returns its response future, and a handle that identifies it in the trace.
fn send(client: &mut Traced, url: &str) -> (impl Future<Output = Answer> + use<>, RequestHandle) {
    let handle = RequestHandle::new();
    let request = Request::get(url).extension(handle.clone()).body(Body::new()).expect("a request");
    (client.call(request), handle)
}

/// Makes a request that must fail, before its response or in its body. Returns the error and the recorded outcome.
async fn failed(fixture: &Fixture, url: &str) -> (Box<dyn Error + Send + Sync>, Outcome) {
    let mut client = client(fixture);
    let (answer, handle) = send(&mut client, url);
    let error: Box<dyn Error + Send + Sync> = match answer.await {
        Err(error) => error.into(),
        Ok(response) => response.into_body().collect().await.expect_err("a body").into(),
    };
    (error, conclude(fixture, client, &handle).await)
}

/// Drops the client, which has no `close`, waits until its dials and connections have ended, and returns the outcome.
async fn conclude(fixture: &Fixture, client: Traced, handle: &RequestHandle) -> Outcome {
    drop(client);
    reached(&fixture.sink, |trace| {
        let dials = trace.dials.iter().all(|dial| dial.end_reason.is_some());
        dials && trace.tcp_conns.iter().all(|conn| conn.end_reason.is_some())
    })
    .await;
    Outcome::taken(fixture.sink.snapshot("all"), handle)
}
