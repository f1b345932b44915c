use crate::fixture::{assert_as_received, finished, statuses};
use http::Response;
use nettrace::{
    TraceSink,
    tls::{Roots, TraceTlsLayer},
};
use nettrace_clients::clickhouse::client;
use test_support::{
    pki::Authority,
    web::{Content, ReceivedRequest, Web, reply, status},
};

async fn database(request: ReceivedRequest) -> Response<Content> {
    match &request.body {
        body if body.starts_with(b"SELECT") => reply("1\n2\n"),
        body if body.starts_with(b"CREATE") => status(200),
        _ => status(500),
    }
}

/// Makes three queries, and asserts that they are in the trace.
async fn assert_queries_are_read(web: &Web, url: String, sink: &TraceSink, tls: &TraceTlsLayer) {
    let client = client(sink, tls).with_url(url).with_user("joe").with_password("secret");
    client.query("CREATE TABLE numbers (n UInt8)").execute().await.unwrap();
    let rows = client.query("SELECT n FROM numbers").fetch_bytes("CSV").unwrap().collect().await.unwrap();
    assert_eq!(rows, "1\n2\n");
    client.query("DROP EVERYTHING").execute().await.expect_err("the server refuses it");

    drop(client);
    let trace = finished(sink).await;
    assert_as_received(&trace, web);
    assert_eq!(statuses(&trace), [200, 200, 500]);
    for request in &trace.http_requests {
        assert!(request.seen_on_wire);
        assert_eq!(request.tls_tunnel.is_undefined(), trace.tls_tunnels.is_empty());
    }
}

#[tokio::test]
async fn queries_are_read_from_the_wire() {
    let web = Web::start(database);
    let sink = TraceSink::new();
    assert_queries_are_read(&web, web.url("/"), &sink, &TraceTlsLayer::builder(&sink).build()).await;
}

#[tokio::test]
async fn queries_are_read_inside_tls() {
    let authority = Authority::new("clickhouse");
    let web = Web::tls(authority.issue(&["localhost"]).server(), database);
    let url = format!("https://localhost:{}/", web.addr().port());
    let sink = TraceSink::new();
    let tls = TraceTlsLayer::builder(&sink).roots(Roots::from_pem(authority.pem()).unwrap()).build();
    assert_queries_are_read(&web, url, &sink, &tls).await;
    assert_eq!(
        sink.snapshot("").tls_tunnels.len(),
        sink.snapshot("").tcp_conns.iter().filter(|conn| conn.connected).count()
    );
}
