//! Connections, and the requests on each, compared with nginx's log.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nettrace::NetTrace;
use nettrace::client::{Client, HttpVersion};
use nettrace::record::EndReason;

use crate::site::{Site, http, https};
use test_support::require::require_tool;

#[tokio::test]
async fn sequential_requests_share_one_connection() {
    require_tool!("nginx", "dnsmasq", "openssl");
    let site = Site::start();
    let Site { nginx, .. } = &site;
    for url in [http(nginx.http, "/hello"), https(nginx.https_h1, "/hello"), https(nginx.https, "/hello")] {
        site.sink.clear();
        let client = site.client().build().unwrap();
        for _ in 0..5 {
            get(&client, &url).await;
        }
        let trace = site.trace_after(&client).await;
        assert_eq!((used_connections(&trace), trace.dials.len()), (1, 1));

        let dial = &trace.dials[0];
        for (n, request) in trace.http_requests.iter().enumerate() {
            let timings = request.timings(&trace);
            let (connected, secured) = (timings.connect.is_some(), timings.tls.is_some());
            assert_eq!((timings.dns.is_some(), connected), (n == 0, n == 0), "{timings}");
            assert_eq!(secured, n == 0 && url.starts_with("https"), "{timings}");
            assert_eq!(dial.triggered_by == request.trace_id, n == 0);
        }
    }
}

/// The responses are long, and requests and connections run on two threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequential_requests_on_two_threads_share_one_connection() {
    require_tool!("nginx", "dnsmasq", "openssl");
    let site = Site::with(|nginx| nginx.file("text", &vec![b'x'; 300_000]));
    let Site { nginx, .. } = &site;
    for url in [http(nginx.http, "/text"), https(nginx.https_h1, "/text"), https(nginx.https, "/text")] {
        site.sink.clear();
        let client = site.client().build().unwrap();
        for _ in 0..50 {
            get(&client, &url).await;
        }
        let trace = site.trace_after(&client).await;
        assert_eq!((trace.tcp_conns.len(), trace.dials.len()), (1, 1), "{url}");
    }
}

#[tokio::test]
async fn connections_closed_after_two_requests_are_replaced() {
    require_tool!("nginx", "dnsmasq", "openssl");
    let site = Site::with(|nginx| nginx.keepalive_requests(2));
    let Site { nginx, .. } = &site;
    for url in [http(nginx.http, "/hello"), https(nginx.https_h1, "/hello"), https(nginx.https, "/hello")] {
        site.sink.clear();
        let client = site.client().build().unwrap();
        for _ in 0..5 {
            get(&client, &url).await;
        }
        let trace = site.trace_after(&client).await;
        assert_eq!(used_connections(&trace), 3, "{url}");
    }
}

#[tokio::test]
async fn connections_closed_while_idle_are_replaced() {
    require_tool!("nginx", "dnsmasq", "openssl");
    let site = Site::with(|nginx| nginx.keepalive_timeout("50ms"));
    let Site { nginx, .. } = &site;
    for url in [http(nginx.http, "/hello"), https(nginx.https_h1, "/hello"), https(nginx.https, "/hello")] {
        site.sink.clear();
        let client = site.client().build().unwrap();
        for _ in 0..2 {
            get(&client, &url).await;
            until(|| site.sink.snapshot("").tcp_conns.iter().all(|conn| conn.end_reason.is_some())).await;
        }
        let trace = site.trace_after(&client).await;
        assert_eq!(used_connections(&trace), 2, "{url}");
        if trace.http_requests[0].proto_major == 2 {
            continue; // the server sends GOAWAY first, so either side may close first
        }
        for conn in &trace.tcp_conns {
            assert_eq!(conn.end_reason, Some(EndReason::PeerClosed), "{url} {conn:#?}");
        }
        for tunnel in &trace.tls_tunnels {
            assert_eq!(tunnel.end_reason, Some(EndReason::PeerClosed), "{url} {tunnel:#?}");
        }
    }
}

#[tokio::test]
async fn without_keep_alive_each_request_has_its_own_connection() {
    require_tool!("nginx", "dnsmasq", "openssl");
    let site = Site::start();
    let Site { nginx, .. } = &site;
    let urls = [nginx.tls12, nginx.https_h1, nginx.https].map(|address| https(address, "/hello"));
    for url in urls.into_iter().chain([http(nginx.http, "/hello")]) {
        site.sink.clear();
        let client = site.client().keep_alive(false).build().unwrap();
        for _ in 0..3 {
            get(&client, &url).await;
        }
        let trace = site.trace_after(&client).await;
        assert_eq!((used_connections(&trace), trace.dials.len()), (3, 3), "{url}");
        // The later handshakes resume the session of the first.
        let resumed: Vec<_> = trace.tls_tunnels.iter().map(|tunnel| tunnel.did_resume).collect();
        assert!(resumed.is_empty() || resumed == [false, true, true], "{url} {resumed:?}");
    }
}

#[tokio::test]
async fn concurrent_requests_respect_the_connection_limit() {
    require_tool!("nginx", "dnsmasq", "openssl");
    const REQUESTS: usize = 40;
    const CONNECTIONS: usize = 4;
    let text = vec![b'x'; 300_000];
    let site = Site::with(|nginx| nginx.file("text", &text));
    let Site { nginx, .. } = &site;
    for base in [http(nginx.http, ""), https(nginx.https_h1, ""), https(nginx.https, "")] {
        site.sink.clear();
        let client = site.client().max_conns_per_host(CONNECTIONS).build().unwrap();
        join_all((0..REQUESTS).map(|n| {
            let url = format!("{base}/text?{n}.");
            let client = &client;
            async move { get(client, &url).await }
        }))
        .await;
        let trace = site.trace_after(&client).await;
        assert!(used_connections(&trace) <= CONNECTIONS, "{base}");
        if trace.http_requests[0].proto_major == 1 {
            assert_eq!(used_connections(&trace), CONNECTIONS, "{base}");
            let waited = trace.http_requests.iter().filter(|r| !dialled(&trace, &r.trace_id)).count();
            assert_eq!(waited, REQUESTS - CONNECTIONS);
        }
    }
}

#[tokio::test]
async fn concurrent_http2_requests_share_one_connection() {
    require_tool!("nginx", "dnsmasq", "openssl");
    const REQUESTS: usize = 30;
    let text = vec![b'x'; 100_000];
    let site = Site::with(|nginx| nginx.file("text", &text));
    let Site { nginx, .. } = &site;
    for (version, base) in
        [(HttpVersion::Auto, https(nginx.https, "")), (HttpVersion::Http2Only, http(nginx.h2c, ""))]
    {
        site.sink.clear();
        let client = site.client().http_version(version).build().unwrap();
        get(&client, &format!("{base}/text?0.")).await; // the pool now knows that the server speaks HTTP/2
        join_all((1..REQUESTS).map(|n| {
            let url = format!("{base}/text?{n}.");
            let client = &client;
            async move { get(client, &url).await }
        }))
        .await;
        let trace = site.trace_after(&client).await;
        assert_eq!((used_connections(&trace), trace.tcp_conns.len(), trace.dials.len()), (1, 1, 1));
        let conn = &trace.tcp_conns[0];
        let bodies: u64 = trace.http_requests.iter().map(|request| request.resp_content_len).sum();
        assert_eq!(bodies, (REQUESTS * text.len()) as u64);
        assert!((bodies..bodies * 11 / 10).contains(&conn.total_recv_bytes), "{conn:#?}");
    }
}

async fn get(client: &Client, url: &str) {
    let response = client.get(url).await.unwrap();
    assert_eq!(response.status(), 200, "{url}");
    response.into_body().bytes().await.unwrap();
}

/// Returns the number of connections that carried requests.
fn used_connections(trace: &NetTrace) -> usize {
    trace.http_requests.iter().map(|request| &request.tcp_conn).collect::<HashSet<_>>().len()
}

/// Returns `true` if the request triggered a dial.
fn dialled(trace: &NetTrace, request: &nettrace::TraceId) -> bool {
    trace.dials.iter().any(|dial| dial.triggered_by == *request)
}

/// Waits until `condition` returns `true`, by polling it.
async fn until(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "the condition stays false");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
