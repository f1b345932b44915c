//! The layers around hyper-util's connector and client: they see less, and what they record is right.

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
async fn refused() {
    let (fixture, nobody) = (Fixture::new().await, Refused::on("127.0.0.1:0"));
    let (error, outcome) = fails(&fixture, &format!("http://web.test:{}/", nobody.addr.port())).await;
    outcome.assert_dial_failed("failed", "connection_refused");
    assert!(outcome.attempts().is_empty(), "this connector hides them");
    assert_eq!(outcome.trace.dns_queries.len(), 2, "our resolver knows for which dial it looks");
    let drawing = view::waterfall(&outcome.trace).width(200).to_string();
    let row = |label| drawing.lines().find(|line| line.starts_with(label)).expect(label);
    assert!(row("  tcp ").ends_with(" · attempts not observed · ✗ connection_refused"), "{drawing}");
    assert!(!row("  dns ").contains('✗'), "{drawing}");
    let text = "tcp connect error: Connection refused (os error 111)";
    assert_eq!((outcome.request.req_error.as_str(), outcome.dial().dial_err.as_str()), (text, text));
    assert!(error.downcast_ref::<legacy::Error>().is_some_and(legacy::Error::is_connect), "{error:?}");
}

#[tokio::test]
async fn nxdomain() {
    let fixture = Fixture::with(DnsServer::start(|asked| asked.nothing(ResponseCode::NXDomain)).await);
    let (_, outcome) = fails(&fixture, "http://nx.test/").await;
    outcome.assert_dial_failed("failed", "dns_nxdomain_error");
    assert!(outcome.trace.dns_queries.iter().all(|query| query.from_dial == outcome.dial().trace_id));
    assert!(outcome.request.req_error.ends_with("no such host"), "{}", outcome.request.req_error);
}

#[tokio::test]
async fn the_first_address_is_dead_and_the_second_fine() {
    let nobody = Refused::on("127.0.0.1:0");
    let listener = TcpListener::bind(("127.0.0.2", nobody.addr.port())).expect("nobody else is on 127.0.0.2");
    let _server = hello_on(listener);
    let fixture = Fixture::with(DnsServer::answering(&["127.0.0.1", "127.0.0.2"]).await);
    let mut client = client(&fixture);
    let (answer, handle) = send(&mut client, &format!("http://web.test:{}/", nobody.addr.port()));
    let body = answer.await.expect("a response").into_body().collect().await.expect("a body");
    assert_eq!(body.to_bytes(), "hello");
    let outcome = conclude(&fixture, client, &handle).await;
    assert_eq!(ended(&outcome.request), ("closed", ""));
    outcome.assert_on(outcome.conn());
    assert_eq!(outcome.conn().addr_tuple.dst_ip, "127.0.0.2");
    assert_eq!(outcome.conn().handshake_begin_at, outcome.dial().resolve_end_at, "all that is known");
}

#[tokio::test]
async fn a_handshake_includes_the_look_up_of_a_resolver_that_is_not_seen() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it listens").port();
    let _server = hello_on(listener);
    let seen = HttpConnector::new_with_resolver(TraceResolve::new(GaiResolver::new()));
    for (is_seen, sink) in [(false, TraceSink::new()), (true, TraceSink::new())] {
        let layer = TraceConnectLayer::new(&sink);
        let pool = Client::builder(TokioExecutor::new());
        let response = if is_seen {
            let client: Client<_, TraceBody<Body>> = pool.build(layer.layer(seen.clone()));
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
        let begin = if is_seen { dial.resolve_end_at } else { dial.dial_begin_at };
        assert!(conn.handshake_begin_at == begin && !begin.is_undefined(), "{conn:#?} of {dial:#?}");
        let timings = request.timings(&trace);
        assert_eq!((timings.dns.is_some(), timings.connect_includes_dns), (is_seen, !is_seen), "{timings}");
        let drawing = view::waterfall(&trace).width(140).to_string();
        let row = format!("127.0.0.1:{port} · includes name lookup");
        assert_eq!(drawing.contains(&row), !is_seen, "{drawing}");
        assert_eq!(drawing.contains("\n  tcp+dns "), !is_seen, "{drawing}");
        assert_eq!(drawing.contains("\n  dns "), is_seen, "{drawing}");
    }
}

#[tokio::test]
async fn closed_before_the_header() {
    let fixture = Fixture::new().await;
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.close().await
    });
    let (error, outcome) = fails(&fixture, &fixture.http(&server)).await;
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
async fn closed_within_the_body() {
    let fixture = Fixture::new().await;
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf!").await?;
        conn.close().await
    });
    let (error, outcome) = fails(&fixture, &fixture.http(&server)).await;
    assert_eq!(ended(&outcome.request), ("failed", "eof_error"));
    outcome.assert_on(outcome.conn());
    assert_eq!((outcome.request.resp_status_code, outcome.request.resp_content_len), (200, 5));
    assert!(error.is::<hyper::Error>(), "the body's own error: {error:?}");
}

#[tokio::test]
async fn dropped_while_the_name_is_looked_up() {
    let fixture = Fixture::with(DnsServer::silent().await);
    let mut client = client(&fixture);
    let (answer, handle) = send(&mut client, "http://web.test/");
    tokio::select! {
        answer = answer => panic!("{answer:?}"),
        () = fixture.nameserver.asked_times(2) => {}
    }
    let outcome = conclude(&fixture, client, &handle).await;
    outcome.assert_dial_failed(CANCELLED.0, CANCELLED.1);
    assert!(outcome.trace.dns_queries.iter().all(|query| ended(query) == CANCELLED));
}

#[tokio::test]
async fn dropped_while_waiting_for_the_header() {
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

fn client(fixture: &Fixture) -> Traced {
    let connector = HttpConnector::new_with_resolver(fixture.resolver().build().expect("nothing to read"));
    let connector = TraceConnectLayer::new(&fixture.sink).layer(connector);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    TraceRequestLayer::new(&fixture.sink).capture_connection(true).layer(client)
}

fn send(client: &mut Traced, url: &str) -> (impl Future<Output = Answer> + use<>, RequestHandle) {
    let handle = RequestHandle::new();
    let request = Request::get(url).extension(handle.clone()).body(Body::new()).expect("a request");
    (client.call(request), handle)
}

/// The error that a request met, before its response or in its body.
async fn fails(fixture: &Fixture, url: &str) -> (Box<dyn Error + Send + Sync>, Outcome) {
    let mut client = client(fixture);
    let (answer, handle) = send(&mut client, url);
    let error: Box<dyn Error + Send + Sync> = match answer.await {
        Err(error) => error.into(),
        Ok(response) => response.into_body().collect().await.expect_err("a body").into(),
    };
    (error, conclude(fixture, client, &handle).await)
}

/// Such a client cannot be closed: it is dropped, and its connections end some time after.
async fn conclude(fixture: &Fixture, client: Traced, handle: &RequestHandle) -> Outcome {
    drop(client);
    reached(&fixture.sink, |trace| {
        let dials = trace.dials.iter().all(|dial| dial.end_reason.is_some());
        dials && trace.tcp_conns.iter().all(|conn| conn.end_reason.is_some())
    })
    .await;
    Outcome::taken(fixture.sink.snapshot("all"), handle)
}
