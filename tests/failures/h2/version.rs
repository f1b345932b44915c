//! The recorded HTTP version of requests that fail before a response arrives.

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::{
    Client as Pool,
    connect::{Connection, HttpConnector},
};
use hyper_util::rt::TokioExecutor;
use nettrace::client::HttpVersion;
use nettrace::record::HttpReqTrace;
use nettrace::request::{TraceBody, TraceRequestLayer};
use nettrace::tls::{Roots, TraceTlsLayer};
use nettrace::{TraceSink, connect::TraceConnectLayer};
use tower::{Layer, Service, ServiceExt};

use super::frames::{Frames, INTERNAL_ERROR};
use crate::fixture::{Fixture, ended, failed, stuck_after, tls_server};
use test_support::raw::{Conn, Refused, Server};

/// Accepts an HTTP/2 connection and resets its first stream.
async fn reset_first_stream(conn: Conn) -> std::io::Result<()> {
    let mut h2 = Frames::accept(conn).await?;
    let stream = h2.request().await?;
    h2.reset(stream, INTERNAL_ERROR).await?;
    h2.until_closed().await;
    Ok(())
}

/// Returns the recorded major and minor version, and the status.
#[track_caller]
fn version(request: &HttpReqTrace) -> (u8, u8, u16) {
    (request.proto_major, request.proto_minor, request.resp_status_code)
}

#[tokio::test]
async fn a_version_negotiated_by_alpn_is_recorded() {
    let fixture = Fixture::new().await;
    let mut config = fixture.authority.issue(&["web.test"]).server();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let server = tls_server(config, reset_first_stream);
    let failed = failed(&fixture.client(), fixture.https(&server)).await;
    assert_eq!(ended(&failed.outcome.request), ("failed", "x_http2_stream_reset"));
    assert_eq!(version(&failed.outcome.request), (2, 0, 0));
    assert_eq!(failed.outcome.request.http2_error, "INTERNAL_ERROR");
}

#[tokio::test]
async fn the_expected_version_is_recorded_without_a_connection() {
    let (fixture, closed_port) = (Fixture::new().await, Refused::on("127.0.0.1:0"));
    let url = format!("http://other.test:{}/", closed_port.addr.port());
    for (wanted, expected) in [(HttpVersion::Http2Only, (2, 0, 0)), (HttpVersion::Auto, (1, 1, 0))] {
        let client = fixture.builder().http_version(wanted).build().unwrap();
        let error = client.get(&url).await.expect_err("refused");
        assert_eq!(version(&error.request().trace().http_requests[0]), expected);
    }
}

#[tokio::test]
async fn the_version_of_a_cancelled_request_is_recorded() {
    let fixture = Fixture::new().await;
    let (server, preface_read) = stuck_after(async |conn| {
        conn.read(24).await?;
        Ok(())
    });
    let client = fixture.builder().http_version(HttpVersion::Http2Only).build().unwrap();
    let (request, handle) = crate::fixture::request(fixture.http(&server));
    let response = tokio::spawn(client.request(request));
    preface_read.notified().await;
    response.abort();
    assert!(response.await.is_err());
    let trace = handle.trace();
    assert_eq!(
        (ended(&trace.http_requests[0]).0, version(&trace.http_requests[0])),
        ("cancelled", (2, 0, 0))
    );
}

#[tokio::test]
async fn the_version_of_a_hyper_util_client_is_recorded() {
    let fixture = Fixture::new().await;
    let sink = TraceSink::new();
    let tcp = || {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        TraceConnectLayer::new(&sink).layer(connector)
    };
    // Three ways to HTTP/2: prior knowledge, ALPN in the traced TLS layer, and ALPN in an untraced TLS layer.
    let plain = Server::start(reset_first_stream);
    assert_reset_over_http2(&sink, tcp(), true, format!("http://{}/", plain.addr())).await;

    let mut config = fixture.authority.issue(&["localhost"]).server();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let secure = tls_server(config, reset_first_stream);
    let url = format!("https://localhost:{}/", secure.addr().port());
    let roots = Roots::from_pem(fixture.authority.pem()).unwrap();
    let layer = TraceTlsLayer::builder(&sink).roots(roots).alpn(["h2"]).build();
    assert_reset_over_http2(&sink, layer.layer(tcp()), false, url.clone()).await;

    let roots = Roots::from_pem(fixture.authority.pem()).unwrap();
    let untraced = TraceTlsLayer::builder(&TraceSink::disabled()).roots(roots).alpn(["h2"]).build();
    assert_reset_over_http2(&sink, untraced.layer(tcp()), false, url).await;
}

/// Makes a request over the connector. Asserts that its stream is reset and that the record has version 2.0.
async fn assert_reset_over_http2<C>(sink: &TraceSink, connector: C, h2_only: bool, url: String)
where
    C: Service<http::Uri> + Clone + Send + Sync + 'static,
    C::Response: Read + Write + Connection + Send + Unpin,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    C::Future: Send + Unpin + 'static,
{
    let pool: Pool<_, TraceBody<Empty<Bytes>>> =
        Pool::builder(TokioExecutor::new()).http2_only(h2_only).build(connector);
    let client = TraceRequestLayer::new(sink).layer(pool);
    let request = Request::get(url).body(Empty::new()).unwrap();
    client.oneshot(request).await.expect_err("its stream was reset");
    let trace = sink.snapshot("");
    let last = trace.http_requests.iter().last().expect("recorded");
    assert_eq!(ended(last), ("failed", "x_http2_stream_reset"));
    assert_eq!(version(last), (2, 0, 0));
}
