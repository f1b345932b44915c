//! TLS by hyper-rustls, above and below the connect layer.

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client as Pool, connect::Connect, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use nettrace::connect::TraceConnectLayer;
use nettrace::request::{TraceBody, TraceRequestLayer};
use nettrace::{Failure, TraceSink};
use rustls::ClientConfig;
use tower::Layer as _;

use crate::clients::{Traced, assert_linked, link, traced};
use test_support::pki::{Authority, provider};
use test_support::web::{Web, reply};

fn config(authority: &Authority) -> ClientConfig {
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    builder.with_root_certificates(authority.store()).with_no_client_auth()
}

/// Returns a TLS connector over hyper-util's connector, which `wrap` may put into a layer.
fn tls_over<C>(authority: &Authority, wrap: impl FnOnce(HttpConnector) -> C) -> HttpsConnector<C> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    let builder = HttpsConnectorBuilder::new().with_tls_config(config(authority)).https_only();
    builder.enable_all_versions().wrap_connector(wrap(http))
}

fn client<C>(sink: &TraceSink, connector: C) -> Traced
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let pool: Pool<_, TraceBody<Full<Bytes>>> = Pool::builder(TokioExecutor::new()).build(connector);
    traced("hyper-rustls", sink, TraceRequestLayer::new(sink).capture_connection(true).layer(pool))
}

/// Returns a client with the connect layer below TLS.
fn client_below_tls(authority: &Authority) -> Traced {
    let sink = TraceSink::new();
    client(&sink, tls_over(authority, |http| TraceConnectLayer::new(&sink).layer(http)))
}

/// Returns a client with the connect layer above TLS.
fn client_above_tls(authority: &Authority) -> Traced {
    let sink = TraceSink::new();
    client(&sink, TraceConnectLayer::new(&sink).above_tls(true).layer(tls_over(authority, |http| http)))
}

#[tokio::test]
async fn the_connect_layer_counts_encrypted_bytes_only_below_tls() {
    let authority = Authority::new("links");
    for alpn in ["h2", "http/1.1"] {
        let mut config = authority.issue(&["127.0.0.1"]).server();
        config.alpn_protocols = vec![alpn.into()];
        let web = Web::tls(config, async |_| reply(vec![b'x'; 10_000]));
        let url = format!("https://{}/", web.addr());
        for (client, is_below) in
            [(client_below_tls(&authority), true), (client_above_tls(&authority), false)]
        {
            for _ in 0..2 {
                let (request, port) = client.fetch(&url).await;
                let trace = client.sink.snapshot("");
                let conn = assert_linked(&trace, &request, port);
                assert_eq!(conn.layer.as_str(), if is_below { "" } else { "application" });
                let record = link(&trace, &request).0;
                assert_eq!(record.proto_major, if alpn == "h2" { 2 } else { 1 });
                assert!(record.tls_tunnel.is_undefined() && trace.tls_tunnels.is_empty());
                assert_eq!(trace.tcp_conns.len(), 1);
            }
            let trace = client.sink.snapshot("");
            let received = trace.tcp_conns[0].total_recv_bytes;
            // The bodies are 20 000 bytes. Only below TLS, certificates and framing add more than 1 000 to that.
            assert_eq!(received > 21_000, is_below, "{received}");
        }
    }
}

#[tokio::test]
async fn an_untrusted_certificate_fails_the_request() {
    let (authority, stranger) = (Authority::new("links"), Authority::new("stranger"));
    let web = Web::tls(stranger.issue(&["127.0.0.1"]).server(), async |_| reply("never"));
    for (client, has_conn) in [(client_below_tls(&authority), true), (client_above_tls(&authority), false)] {
        let (request, outcome) = client.get(&format!("https://{}/", web.addr())).await;
        outcome.expect_err("an untrusted certificate");
        let trace = client.sink.snapshot("");
        let record = link(&trace, &request).0;
        assert_eq!(record.failure, Some(Failure::SslUnknownAuthority), "{}", record.req_error);
        assert_eq!(trace.dials[0].triggered_by, record.trace_id);
        assert_eq!(trace.tcp_conns.len(), usize::from(has_conn));
        assert_eq!(record.tcp_conn.is_undefined(), !has_conn);
    }
}
