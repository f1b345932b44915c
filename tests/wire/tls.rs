//! Requests inside TLS.

use crate::fixture::{finished, only_request, pool};
use http_body_util::BodyExt as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use nettrace::{
    TraceSink,
    connect::TraceConnectLayer,
    record::NetTrace,
    tls::{Roots, TraceTlsLayer},
    wire::{TraceWire, TraceWireLayer},
};
use test_support::{
    pki::Authority,
    web::{Web, reply},
};
use tower::Layer as _;

/// Makes a request over `connector`, which is put into the layer that reads, and returns the trace.
async fn request_over<C>(sink: &TraceSink, alpn: &str, connector: impl FnOnce(&Authority) -> C) -> NetTrace
where
    TraceWire<C>: Connect + Clone + Send + Sync + 'static,
{
    let authority = Authority::new("wire");
    let mut config = authority.issue(&["localhost"]).server();
    config.alpn_protocols = vec![alpn.into()];
    let web = Web::tls(config, async |_| reply("hello"));
    let client = pool(TraceWireLayer::new(sink).layer(connector(&authority)), alpn == "h2");
    let url = format!("https://localhost:{}/a", web.addr().port());
    client.get(url.parse().unwrap()).await.unwrap().into_body().collect().await.unwrap();
    drop(client);
    let trace = finished(sink).await;
    let request = only_request(&trace);
    assert_eq!((request.req_url.as_str(), request.resp_content_len), (&*url, 5));
    assert_eq!(request.proto_major, if alpn == "h2" { 2 } else { 1 });
    assert_eq!(request.tcp_conn, trace.tcp_conns[0].trace_id);
    trace
}

fn http() -> HttpConnector {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http
}

#[tokio::test]
async fn requests_are_read_above_the_traced_tls_layer() {
    for alpn in ["http/1.1", "h2"] {
        let sink = TraceSink::new();
        let trace = request_over(&sink, alpn, |authority| {
            let connector = TraceConnectLayer::new(&sink).layer(http());
            let roots = Roots::from_pem(authority.pem()).unwrap();
            TraceTlsLayer::builder(&sink).roots(roots).alpn([alpn]).build().layer(connector)
        })
        .await;
        assert_eq!(trace.http_requests[0].tls_tunnel, trace.tls_tunnels[0].trace_id);
    }
}

fn rustls_over<C>(authority: &Authority, connector: C) -> HttpsConnector<C> {
    let builder = HttpsConnectorBuilder::new().with_tls_config(authority.client()).https_only();
    builder.enable_all_versions().wrap_connector(connector)
}

#[tokio::test]
async fn requests_are_read_above_the_tls_of_another_crate() {
    for alpn in ["http/1.1", "h2"] {
        let sink = TraceSink::new();
        let layer = TraceConnectLayer::new(&sink);
        let trace = request_over(&sink, alpn, |authority| rustls_over(authority, layer.layer(http()))).await;
        assert_eq!(trace.tcp_conns[0].layer.as_str(), "");

        let sink = TraceSink::new();
        let layer = TraceConnectLayer::new(&sink).above_tls(true);
        let trace = request_over(&sink, alpn, |authority| layer.layer(rustls_over(authority, http()))).await;
        assert_eq!(trace.tcp_conns[0].layer.as_str(), "application");
    }
}
