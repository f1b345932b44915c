//! What links a request to other telemetry: `traceparent`, the span of `tracing`, and the user's tags.

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use nettrace::{
    Client, HeaderCapture, NetTrace, RequestHandle, ResponseExt as _, TraceSink, TracingEvents, client::Body,
    connect::TraceConnectLayer, record::HttpReqTrace, wire::TraceWireLayer,
};
use tower::Layer as _;
use tracing::Instrument as _;
use tracing_subscriber::layer::SubscriberExt as _;

use test_support::{
    check,
    collector::Collector,
    web::{ReceivedRequest, Web, redirect, reply},
};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn only(trace: &NetTrace) -> &HttpReqTrace {
    check::running(trace);
    let [request] = &trace.http_requests[..] else { panic!("not one request: {:?}", trace.http_requests) };
    request
}

fn with_handle(url: &str, handle: &RequestHandle) -> Request<Body> {
    let mut request = Request::get(url).body(Body::empty()).unwrap();
    request.extensions_mut().insert(handle.clone());
    request
}

#[tokio::test]
async fn the_distributed_trace_is_recorded_under_every_policy() {
    let web = Web::start(async |_| reply("hello"));
    for policy in [HeaderCapture::Off, HeaderCapture::Names, HeaderCapture::Lengths, HeaderCapture::Values] {
        let sink = TraceSink::builder().headers(policy).build();
        let client = Client::builder(&sink).build().unwrap();
        let request = Request::get(web.url("/")).header("traceparent", PARENT).body(Body::empty()).unwrap();
        client.request(request).await.unwrap().into_body().bytes().await.unwrap();
        let trace = sink.snapshot("");
        let request = only(&trace);
        assert_eq!(request.traceparent, PARENT);
        assert_eq!(request.req_header.is_empty(), policy == HeaderCapture::Off);
    }
    assert!(web.requests().iter().all(|request| request.header("traceparent") == PARENT));
}

#[tokio::test]
async fn the_distributed_trace_is_read_from_the_wire() {
    let web = Web::start(async |_| reply("hello"));
    for h2 in [false, true] {
        let sink = TraceSink::new();
        let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
        let client: legacy::Client<_, Empty<Bytes>> = legacy::Client::builder(TokioExecutor::new())
            .http2_only(h2)
            .build(TraceWireLayer::new(&sink).layer(connector));
        let request = Request::get(web.url("/"));
        let request = request.header("traceparent", PARENT).header("authorization", "secret");
        client.request(request.body(Empty::new()).unwrap()).await.unwrap();
        let trace = sink.snapshot("");
        let request = only(&trace);
        assert!(request.seen_on_wire);
        assert_eq!(request.traceparent, PARENT, "h2: {h2}");
        assert!(request.req_header.is_empty());
    }
}

#[tokio::test]
async fn a_request_without_valid_traceparent_has_none() {
    let web = Web::start(async |_| reply("hello"));
    let sink = TraceSink::new();
    let client = Client::builder(&sink).build().unwrap();
    let request = Request::get(web.url("/")).header("traceparent", "00-0-0-01").body(Body::empty()).unwrap();
    client.request(request).await.unwrap();
    assert!(only(&sink.snapshot("")).traceparent.is_empty());
}

#[tokio::test]
async fn the_span_in_which_a_request_is_made_is_recorded() {
    let web = Web::start(async |_| reply("hello"));
    let sink = TraceSink::new();
    let client = Client::builder(&sink).build().unwrap();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry());
    let span = tracing::info_span!("job");
    let id = span.id().unwrap().into_u64();
    let fetch = async { client.get(web.url("/")).await.unwrap().into_body().bytes().await.unwrap() };
    fetch.instrument(span).await;
    client.get(web.url("/")).await.unwrap();
    let trace = sink.snapshot("");
    let [inside, outside] = &trace.http_requests[..] else { panic!("not two requests") };
    assert_eq!(inside.tracing_span, id.to_string().as_str());
    assert!(outside.tracing_span.is_empty());
}

#[tokio::test]
async fn tags_are_written_before_and_after_a_request_is_sent_until_it_ends() {
    let web = Web::start(async |_| reply("hello"));
    let sink = TraceSink::new();
    let client = Client::builder(&sink).build().unwrap();
    let handle = RequestHandle::new();
    handle.tag("tenant", "acme");
    handle.tag("attempt", 1);
    let response = client.request(with_handle(&web.url("/"), &handle)).await.unwrap();
    response.request_handle().unwrap().tag("status", response.status().as_u16());
    handle.tag("attempt", 2);
    response.into_body().bytes().await.unwrap();
    handle.tag("late", true);
    let trace = sink.snapshot("");
    let tags: Vec<_> = only(&trace).tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(tags, ["attempt=2", "status=200", "tenant=acme"]);
    assert_eq!(handle.trace().http_requests[0].tags, trace.http_requests[0].tags);
}

#[tokio::test]
async fn every_hop_of_a_redirect_has_the_tags() {
    let web = Web::start(async |request: ReceivedRequest| match request.path() {
        "/" => redirect(302, "/next"),
        _ => reply("hello"),
    });
    let sink = TraceSink::new();
    let client = Client::builder(&sink).build().unwrap();
    let handle = RequestHandle::new();
    handle.tag("tenant", "acme");
    client.request(with_handle(&web.url("/"), &handle)).await.unwrap();
    let trace = sink.snapshot("");
    assert_eq!(trace.http_requests.len(), 2);
    assert!(trace.http_requests.iter().all(|hop| hop.tags["tenant"] == *"acme"));
}

#[tokio::test]
async fn tags_are_counted_against_the_limit() {
    let web = Web::start(async |_| reply("hello"));
    let sink = TraceSink::new();
    let client = Client::builder(&sink).build().unwrap();
    let handle = RequestHandle::new();
    (0..100).for_each(|at| handle.tag(&format!("key {at}"), "v".repeat(1_000)));
    client.request(with_handle(&web.url("/"), &handle)).await.unwrap();
    let trace = sink.snapshot("");
    let request = only(&trace);
    assert_eq!((request.tags.len(), request.truncated_fields.get("tags")), (32, Some(100)));
    assert!(request.tags.values().all(|value| value.chars().count() == 257 && value.ends_with('…')));
}

#[tokio::test]
async fn a_handle_keeps_its_tags_until_a_request_is_traced() {
    let handle = RequestHandle::new();
    handle.tag("tenant", "acme");
    let web = Web::start(async |_| reply("hello"));
    let sink = TraceSink::new();
    for sink in [&TraceSink::disabled(), &sink] {
        let client = Client::builder(sink).build().unwrap();
        client.request(with_handle(&web.url("/"), &handle)).await.unwrap();
    }
    assert_eq!(only(&sink.snapshot("")).tags["tenant"], *"acme");
}

#[tokio::test]
async fn events_have_what_links_a_request_to_other_telemetry() {
    let collector = Collector::default();
    let sink = TraceSink::builder().subscriber(TracingEvents::new()).build();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(collector.clone()));
    let web = Web::start(async |_| reply("hello"));
    let client = Client::builder(&sink).build().unwrap();
    let handle = RequestHandle::new();
    handle.tag("tenant", "acme");
    handle.tag("zone", "b c=\n");
    let mut request = with_handle(&web.url("/"), &handle);
    request.headers_mut().insert("traceparent", PARENT.parse().unwrap());
    let span = tracing::info_span!("job");
    let id = span.id().unwrap().into_u64().to_string();
    let fetch = async { client.request(request).await.unwrap().into_body().bytes().await.unwrap() };
    fetch.instrument(span).await;
    let [event] = &collector.events("nettrace::http")[..] else { panic!("not one request") };
    let fields = ["nettrace.traceparent", "nettrace.span", "nettrace.tags"];
    assert_eq!(fields.map(|field| event.get(field)), [PARENT, &id, "tenant=acme zone=\"b c=\\n\""]);
}
