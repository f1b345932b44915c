use crate::fixture::{assert_as_received, finished, grpc, grpc_message, grpc_statuses};
use http::Response;
use nettrace::{
    NetTrace, TraceSink,
    tls::{Roots, TraceTlsLayer},
};
use nettrace_clients::otlp_grpc::{exporter, exporter_over_tls};
use opentelemetry::trace::{Tracer as _, TracerProvider as _};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_sdk::trace::SdkTracerProvider;
use test_support::{
    pki::Authority,
    web::{Content, ReceivedRequest, Web},
};
use tonic::transport::Endpoint;

async fn collector(request: ReceivedRequest) -> Response<Content> {
    let spans: ExportTraceServiceRequest = grpc_message(&request.body);
    let name = &spans.resource_spans[0].scope_spans[0].spans[0].name;
    grpc(if name == "bad" { 3 } else { 0 }, &ExportTraceServiceResponse::default())
}

/// Exports two spans, on the thread of the batch processor, and asserts that both calls are in the trace.
async fn assert_exports_are_read(web: &Web, sink: &TraceSink, exporter: SpanExporter) -> NetTrace {
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
    let tracer = provider.tracer("test");
    tokio::task::spawn_blocking(move || {
        tracer.in_span("good", |_| ());
        provider.force_flush().expect("the export succeeds");
        tracer.in_span("bad", |_| ());
        provider.force_flush().expect_err("the server refuses it");
        provider.shutdown().expect("nothing is left to export");
    })
    .await
    .unwrap();

    let trace = finished(sink).await;
    assert_as_received(&trace, web);
    assert_eq!(grpc_statuses(&trace), [Some(0), Some(3)]);
    assert!(trace.http_requests.iter().all(|request| request.seen_on_wire));
    trace
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn exports_are_read_from_the_wire() {
    let web = Web::start(collector);
    let sink = TraceSink::new();
    let exporter = exporter(&sink, Endpoint::from_shared(web.url("")).unwrap()).unwrap();
    assert_exports_are_read(&web, &sink, exporter).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn exports_are_read_inside_tls() {
    let authority = Authority::new("otlp");
    let mut config = authority.issue(&["localhost"]).server();
    config.alpn_protocols = vec!["h2".into()];
    let web = Web::tls(config, collector);
    let host = format!("localhost:{}", web.addr().port());
    let sink = TraceSink::new();
    let roots = Roots::from_pem(authority.pem()).unwrap();
    let tls = TraceTlsLayer::builder(&sink).roots(roots).alpn(["h2"]).always().build();
    let endpoint = Endpoint::from_shared(format!("http://{host}")).unwrap();
    let endpoint = endpoint.origin(format!("https://{host}").parse().unwrap());
    let exporter = exporter_over_tls(&sink, endpoint, &tls).unwrap();
    let trace = assert_exports_are_read(&web, &sink, exporter).await;
    for request in &trace.http_requests {
        assert_eq!(request.tls_tunnel, trace.tls_tunnels[0].trace_id);
        assert!(request.req_url.as_str().starts_with(&format!("https://{host}/")), "{}", request.req_url);
    }
}
