//! The spans of requests that a program answers, and of those that it makes meanwhile.

use crate::{
    decoded::{SpanExt as _, Spans},
    exported, exported_with,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use nettrace::{
    Client, NetTrace, TraceSink,
    export::otlp_json::{OtlpJson, TraceparentMeaning},
    request::TraceBody,
    server::{TraceListener, TraceServerLayer},
};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use std::convert::Infallible;
use test_support::{
    check,
    web::{Web, reply},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tower::Layer as _;

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const HANDLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-1111111111111111-01";

/// Serves one request with the `traceparent` of the caller, whose handler makes a request with the header fields that
/// are given. Returns the trace.
async fn served(caller: Option<&str>, nested: Option<&'static str>) -> NetTrace {
    let (sink, back) = (TraceSink::new(), Web::start(async |_| reply("back")));
    let client = Client::builder(&sink).build().unwrap();
    let listener = TraceListener::new(&sink, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let mut caller_io = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (io, _) = listener.accept().await.unwrap();
    let url = back.url("/back");
    let (handler, nested_url) = (client.clone(), url.clone());
    let service = service_fn(move |_: Request<TraceBody<Incoming>>| {
        let request = Request::get(&nested_url).header("x-other", "1");
        let request = nested.into_iter().fold(request, |request, field| request.header("traceparent", field));
        let response = handler.request(request.body(Default::default()).unwrap());
        async move {
            response.await.unwrap().into_body().bytes().await.unwrap();
            Ok::<_, Infallible>(Response::builder().status(503).body(Full::new(Bytes::from("busy"))).unwrap())
        }
    });
    let service = TraceServerLayer::new(&sink).conn(io.conn_ref()).layer(service);
    let field = caller.map(|field| format!("traceparent: {field}\r\n")).unwrap_or_default();
    let head = format!("GET /front?q=1 HTTP/1.1\r\nhost: front.test\r\nconnection: close\r\n{field}\r\n");
    caller_io.write_all(head.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    let (served, read) = tokio::join!(
        http1::Builder::new().serve_connection(TokioIo::new(io), service),
        caller_io.read_to_end(&mut response),
    );
    served.unwrap();
    read.unwrap();
    client.close().await;
    let trace = sink.snapshot("");
    check::finished(&trace);
    trace
}

/// Returns the spans of the served request and of the one that its handler made.
#[track_caller]
fn both<'a>(spans: &'a Spans, trace: &NetTrace) -> [&'a opentelemetry_proto::tonic::trace::v1::Span; 2] {
    [true, false].map(|accepted| {
        let record = trace.http_requests.iter().find(|request| request.accepted == accepted).unwrap();
        spans.request(&record.trace_id)
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_request_of_a_handler_is_a_child_of_the_served_one() {
    let trace = served(None, None).await;
    let spans = exported(&trace);
    let [front, back] = both(&spans, &trace);
    assert!(front.is_root() && front.kind == SpanKind::Server as i32, "{front:?}");
    for (key, text) in [
        ("http.request.method", "GET"),
        ("url.scheme", "http"),
        ("url.path", "/front"),
        ("url.query", "q=1"),
        ("server.address", "front.test"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("url.full", ""),
    ] {
        assert_eq!(front.text(key), text, "{key}");
    }
    assert!(front.is_error() && front.text("error.type") == "503", "{front:?}");
    assert_eq!(front.number("server.port"), Some(80));
    let record = trace.http_requests.get(front.text("nettrace.id")).unwrap();
    front.assert_times(&trace, record.req_sent_at, record.end_at);
    assert!(front.links.is_empty(), "{front:?}");
    assert_eq!((&back.parent_span_id, &back.trace_id), (&front.span_id, &front.trace_id));
    assert_eq!(back.kind, SpanKind::Client as i32);
    assert!(back.status.is_none() && back.links.len() == 1, "{back:?}");
}

#[tokio::test]
async fn a_served_request_belongs_to_the_trace_of_its_caller() {
    let trace = served(Some(CALLER), None).await;
    let spans = exported(&trace);
    let [front, back] = both(&spans, &trace);
    assert_eq!(hex(&front.trace_id), &CALLER[3..35]);
    assert_eq!(hex(&front.parent_span_id), &CALLER[36..52]);
    assert_eq!(front.flags, 0x301, "sampled, and the parent is in another process");
    assert_eq!((&back.parent_span_id, &back.trace_id), (&front.span_id, &front.trace_id));
}

#[tokio::test]
async fn a_traceparent_that_a_handler_passes_on_changes_nothing() {
    let trace = served(Some(CALLER), Some(CALLER)).await;
    let spans = exported(&trace);
    let [front, back] = both(&spans, &trace);
    assert_eq!((&back.parent_span_id, &back.trace_id), (&front.span_id, &front.trace_id));
}

#[tokio::test]
async fn a_traceparent_of_a_handler_names_the_caller_or_the_request() {
    let trace = served(Some(CALLER), Some(HANDLER)).await;
    let spans = exported(&trace);
    let [_, back] = both(&spans, &trace);
    assert_eq!(hex(&back.parent_span_id), &HANDLER[36..52]);
    assert_eq!(hex(&back.trace_id), &HANDLER[3..35]);
    assert_eq!(back.flags, 0x101, "sampled, and the parent is in this process");

    let spans = exported_with(&OtlpJson::new().traceparent(TraceparentMeaning::Request), &trace);
    let [front, back] = both(&spans, &trace);
    assert_eq!(hex(&back.span_id), &HANDLER[36..52]);
    assert_eq!((&back.parent_span_id, &back.trace_id), (&front.span_id, &front.trace_id));
}
