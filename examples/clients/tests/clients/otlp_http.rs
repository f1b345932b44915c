use crate::fixture::{assert_as_received, finished, statuses};
use nettrace::{Client, TraceSink, record::EndReason};
use nettrace_clients::otlp_http::TracedHttpClient;
use opentelemetry::trace::{Tracer as _, TracerProvider as _};
use opentelemetry_http::{HttpClient as _, Request};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::pin::pin;
use test_support::{
    wait,
    web::{Web, reply, status},
};
use tokio::runtime::Handle;

fn http_client(sink: &TraceSink) -> TracedHttpClient {
    TracedHttpClient::new(Client::builder(sink).build().unwrap(), Handle::current())
}

/// The batch processor exports on a thread of its own, without a runtime.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn exports_are_requests_of_the_traced_client() {
    let web = Web::start(async |request| match request.path() {
        "/v1/traces" => reply(""),
        _ => status(404),
    });
    let sink = TraceSink::new();
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(http_client(&sink))
        .with_endpoint(web.url("/v1/traces"))
        .build()
        .unwrap();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
    let tracer = provider.tracer("test");

    tokio::task::spawn_blocking(move || {
        for _ in 0..2 {
            tracer.in_span("work", |_| ());
            provider.force_flush().expect("the export succeeds");
        }
        provider.shutdown().expect("nothing is left to export");
    })
    .await
    .unwrap();

    let trace = finished(&sink).await;
    assert_as_received(&trace, &web);
    assert_eq!(statuses(&trace), [200, 200]);
}

#[tokio::test]
async fn a_response_that_is_too_large_is_an_error() {
    let web = Web::start(async |_| reply(vec![0; 5 << 20]));
    let sink = TraceSink::new();
    let client = http_client(&sink);
    client.send_bytes(Request::get(web.url("/")).body("".into()).unwrap()).await.expect_err("too large");
    drop(client);
    let trace = finished(&sink).await;
    assert_eq!(trace.http_requests[0].end_reason, Some(EndReason::Cancelled));
}

#[tokio::test]
async fn dropping_an_export_cancels_its_request() {
    let web = Web::start(async |_| std::future::pending().await);
    let sink = TraceSink::new();
    let client = http_client(&sink);
    {
        let mut export = pin!(client.send_bytes(Request::get(web.url("/")).body("".into()).unwrap()));
        wait::polling_until("the server has the request", export.as_mut(), || web.requests().len() == 1)
            .await;
    }
    drop(client);
    let trace = finished(&sink).await;
    assert_as_received(&trace, &web);
    assert_eq!(trace.http_requests[0].end_reason, Some(EndReason::Cancelled));
}
