//! Records of requests that complete.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nettrace::{
    Client, HeaderCapture, TraceSink, TracingEvents,
    record::{EndReason, HttpReqTrace},
    request::TraceBody,
    server::TraceServerLayer,
    view,
};
use tokio::net::TcpStream;
use tower::{Layer as _, ServiceExt as _};
use tracing::Level;

use crate::servers::{TestServer, ask, conn_of, conns_ended, get, settled};
use test_support::collector::Collector;

/// Returns the status, the body lengths and the end reason of a request, after asserting that it did not fail.
fn outcome(request: &HttpReqTrace) -> (u16, u64, u64, Option<EndReason>) {
    assert!(request.accepted && request.failure.is_none(), "{request:?}");
    (request.resp_status_code, request.req_content_len, request.resp_content_len, request.end_reason.clone())
}

#[tokio::test]
async fn a_request_is_recorded_with_its_times_and_lengths() {
    let site = TestServer::start(&TraceSink::new()).await;
    let post =
        "POST /echo?a=b HTTP/1.1\r\nhost: web.test\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
    let answer = ask(site.addr, post).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nhello"), "{answer}");

    let trace = site.finished().await;
    let [request] = &trace.http_requests[..] else { panic!("expected one request") };
    assert_eq!(outcome(request), (200, 5, 5, Some(EndReason::Closed)));
    assert_eq!((request.req_method.as_str(), request.req_url.as_str()), ("POST", "http://web.test/echo?a=b"));
    assert_eq!((request.proto_major, request.proto_minor), (1, 1));
    assert_eq!(request.conn_acquired_at, request.req_sent_at);
    assert!(request.req_body_end_at >= request.req_sent_at);
    assert!(request.resp_recv_at >= request.req_body_end_at && request.end_at >= request.resp_recv_at);
    assert_eq!(request.resp_body_end_at, request.end_at);

    let conn = conn_of(&trace, request);
    assert_eq!((conn.total_recv_bytes, conn.total_sent_bytes), (post.len() as u64, answer.len() as u64));
    let timings = request.timings(&trace);
    assert_eq!((timings.dns, timings.connect, timings.tls), (None, None, None));
    assert_eq!(timings.blocked, Some(std::time::Duration::ZERO));
    assert!(timings.send.is_some() && timings.wait.is_some() && timings.receive.is_some());

    let drawing = view::waterfall(&trace).to_string();
    assert!(drawing.contains("served POST http://web.test/echo?a=b · 200 OK"), "{drawing}");
    for label in ["  read ", "  serve ", "  reply "] {
        assert!(drawing.lines().any(|line| line.starts_with(label)), "{drawing}");
    }
    assert!(!drawing.contains("blocked") && !drawing.contains("\n  tcp"), "{drawing}");
}

#[tokio::test]
async fn response_bodies_of_every_kind_end_as_closed() {
    for (path, status, received) in [
        ("/hello", 200, 5),
        ("/stream", 200, 6),
        ("/sized", 200, 5),
        ("/trailers", 200, 5),
        ("/empty", 204, 0),
    ] {
        let site = TestServer::start(&TraceSink::new()).await;
        ask(site.addr, &get(path)).await;
        let trace = site.finished().await;
        assert_eq!(
            outcome(&trace.http_requests[0]),
            (status, 0, received, Some(EndReason::Closed)),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_head_request_ends_without_a_body() {
    let site = TestServer::start(&TraceSink::new()).await;
    ask(site.addr, &get("/stream").replace("GET", "HEAD")).await;
    assert_eq!(outcome(&site.finished().await.http_requests[0]), (200, 0, 0, Some(EndReason::Closed)));
}

#[tokio::test]
async fn a_request_is_in_the_trace_while_the_service_runs() {
    let site = TestServer::start(&TraceSink::new()).await;
    let (addr, asked) = (site.addr, get("/hold"));
    let client = tokio::spawn(async move { ask(addr, &asked).await });
    site.gate.holds_one().await;
    let trace = site.sink.snapshot("while it does");
    test_support::check::running(&trace);
    let [request] = &trace.http_requests[..] else { panic!("expected one request") };
    assert!(request.end_reason.is_none() && request.resp_recv_at.is_undefined());
    assert!(view::waterfall(&trace).to_string().contains("still running"));
    site.gate.release_one();
    assert!(client.await.unwrap().ends_with("held"));
    assert_eq!(outcome(&site.finished().await.http_requests[0]), (200, 0, 4, Some(EndReason::Closed)));
}

#[tokio::test]
async fn pipelined_requests_are_linked_to_one_connection() {
    let site = TestServer::start(&TraceSink::new()).await;
    let requests = "GET /hello HTTP/1.1\r\nhost: a\r\n\r\n".repeat(3) + &get("/hello");
    ask(site.addr, &requests).await;
    let trace = site.finished().await;
    assert_eq!((trace.http_requests.len(), trace.tcp_conns.len()), (4, 1));
    assert!(trace.http_requests.iter().all(|request| request.tcp_conn == trace.tcp_conns[0].trace_id));
}

#[tokio::test]
async fn http2_requests_are_linked_to_their_connection() {
    let site = TestServer::start(&TraceSink::new()).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let io = TokioIo::new(TcpStream::connect(site.addr).await.unwrap());
        let port = io.inner().local_addr().unwrap().port();
        let (client, conn) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(conn);
        clients.push((port, client));
    }
    let requests = clients.iter().flat_map(|(port, client)| {
        (0..20).map(move |_| {
            let mut client = client.clone();
            let request = http::Request::post(format!("http://web.test/echo?{port}"));
            let request = request.body(Full::new(Bytes::from("hello"))).unwrap();
            async move { client.send_request(request).await.unwrap().into_body().collect().await.unwrap() }
        })
    });
    futures_util::future::join_all(requests).await;
    drop(clients);

    let trace = settled(&site.sink, conns_ended).await;
    assert_eq!((trace.http_requests.len(), trace.tcp_conns.len()), (40, 2));
    for request in &trace.http_requests {
        assert_eq!(outcome(request), (200, 5, 5, Some(EndReason::Closed)));
        assert_eq!(request.proto_major, 2);
        let port = conn_of(&trace, request).addr_tuple.dst_port;
        assert_eq!(
            request.req_url,
            format!("http://web.test/echo?{port}"),
            "the connection that carried the request"
        );
    }
}

#[tokio::test]
async fn header_fields_and_trailers_follow_the_policy_of_the_sink() {
    let sink = TraceSink::builder().headers(HeaderCapture::Values).mask_query(true).build();
    let site = TestServer::start(&sink).await;
    let secret = "GET /trailers?token=1 HTTP/1.1\r\nhost: joe:secret@web.test\r\nauthorization: Basic c2VjcmV0\r\n\
                  te: trailers\r\nconnection: close\r\n\r\n";
    ask(site.addr, secret).await;
    let trace = site.finished().await;
    let [request] = &trace.http_requests[..] else { panic!("expected one request") };
    assert_eq!(request.req_url, "http://***@web.test/trailers?***");
    assert_eq!(request.req_header.get("te").unwrap().field_val, "trailers");
    assert_eq!(request.req_header.get("authorization").unwrap().field_val, "");
    assert_eq!(request.resp_header.get("trailer").unwrap().field_val, "x-last");
    assert_eq!(request.trailers.get("x-last").unwrap().field_val, "yes");
    assert!(!serde_json::to_string(&trace).unwrap().contains("c2VjcmV0"));
}

#[tokio::test]
async fn requests_are_not_recorded_if_http_is_switched_off() {
    let sink = TraceSink::builder().http(false).build();
    let site = TestServer::start(&sink).await;
    ask(site.addr, &get("/hello")).await;
    let trace = site.finished().await;
    assert_eq!((trace.http_requests.len(), trace.tcp_conns.len()), (0, 1));
}

#[tokio::test]
async fn records_of_client_and_server_in_one_sink_are_distinguishable() {
    let sink = TraceSink::new();
    let site = TestServer::start(&sink).await;
    let client = Client::builder(&sink).build().unwrap();
    client.get(site.url("/hello")).await.unwrap().into_body().bytes().await.unwrap();
    client.close().await;
    let trace = site.finished().await;
    let count = |accepted| {
        let requests = trace.http_requests.iter().filter(|request| request.accepted == accepted);
        let conns = trace.tcp_conns.iter().filter(|conn| conn.accepted == accepted);
        (requests.count(), conns.count())
    };
    assert_eq!((count(true), count(false)), ((1, 1), (1, 1)));
}

#[tokio::test]
async fn tracing_events_describe_accepted_requests() {
    let collector = Collector::default();
    let _guard = tracing::subscriber::set_default(collector.clone());
    let site = TestServer::start(&TraceSink::builder().subscriber(TracingEvents::new()).build()).await;
    ask(site.addr, &get("/missing")).await;
    ask(site.addr, &get("/error")).await;
    site.finished().await;
    let [missing, error] = &collector.events("nettrace::http")[..] else { panic!("expected two requests") };
    assert_eq!((missing.get("http.response.status_code"), missing.get("error.type")), ("404", ""));
    assert_eq!((error.get("error.type"), error.level), ("connection_refused", Level::WARN));
    assert!([missing, error].iter().all(|event| event.get("nettrace.accepted") == "true"));
}

/// With `boxed`, the inner service keeps the type of its request body.
#[tokio::test]
async fn a_boxed_body_suits_tower_and_hyper_services() {
    type Boxed = BoxBody<Bytes, Infallible>;
    async fn echo(request: Request<Boxed>) -> Result<Response<Boxed>, Infallible> {
        Ok(Response::new(request.into_body()))
    }
    for sink in [TraceSink::new(), TraceSink::disabled()] {
        let layer = TraceServerLayer::new(&sink).boxed(|body: TraceBody<Full<Bytes>>| body.boxed());
        let request = || Request::post("http://web.test/").body(Full::from("hello")).unwrap();
        let tower = layer.clone().layer(tower::service_fn(echo)).oneshot(request()).await.unwrap();
        let service = layer.layer(hyper::service::service_fn(echo));
        let hyper = hyper::service::Service::call(&service, request()).await.unwrap();
        for response in [tower, hyper] {
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
        }
        let trace = sink.snapshot("");
        let outcomes: Vec<_> = trace.http_requests.iter().map(outcome).collect();
        let expected = (200, 5, 5, Some(EndReason::Closed));
        assert_eq!(outcomes, vec![expected; if sink.is_enabled() { 2 } else { 0 }]);
    }
}
