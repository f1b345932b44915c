//! How the wait of requests divides, and what is said about it.

use super::{sink, snapshot, warm_up};
use nettrace::{
    Client, NetTrace, TraceSink, client::HttpVersion, linux::TimestampingProbe, record::WaitBreakdown,
    tls::Roots, view,
};
use std::time::Duration;
use test_support::{
    lab::{Delay, Routed},
    pki::Authority,
    raw::Server,
    require::require_lab,
    web::{ReceivedRequest, Web, reply},
};

const THINKING: Duration = Duration::from_millis(300);

/// A server that thinks before it answers a request for `/slow`.
async fn think(request: ReceivedRequest) -> http::Response<test_support::web::Content> {
    if request.path() == "/slow" {
        tokio::time::sleep(THINKING).await;
    }
    reply("hello")
}

fn client(sink: &TraceSink, version: HttpVersion) -> Client {
    let builder = Client::builder(sink).nameservers([] as [std::net::SocketAddr; 0]).http_version(version);
    builder.build().unwrap()
}

async fn fetch(client: &Client, url: &str) {
    client.get(url).await.unwrap().into_body().bytes().await.unwrap();
}

/// Has the kernel stamp what it receives.
async fn stamping(sink: &TraceSink) {
    let server = Server::start(async |mut conn| {
        loop {
            let byte = conn.read(1).await?;
            conn.write(&byte).await?;
        }
    });
    let mut stream = super::connect(sink, server.addr()).await;
    warm_up(&mut stream, sink).await;
}

#[track_caller]
fn breakdown(trace: &NetTrace, path: &str) -> WaitBreakdown {
    let request = trace.http_requests.iter().rev().find(|request| request.req_url.ends_with(path)).unwrap();
    let parts = request.wait_breakdown(trace).unwrap_or_else(|| panic!("{trace:#?}"));
    let sum = parts.own_stack + parts.network + parts.server + parts.read_delay + parts.head;
    assert_eq!(Some(sum), request.timings(trace).wait);
    parts
}

#[tokio::test]
async fn the_time_of_a_server_that_thinks_is_the_servers() {
    let (web, sink) = (Web::start(think), sink());
    stamping(&sink).await;
    let client = client(&sink, HttpVersion::Auto);
    fetch(&client, &web.url("/")).await;
    fetch(&client, &web.url("/slow")).await;
    let trace = snapshot(&sink);
    // The acknowledgement may be delayed until then by 40 ms, or by 200 ms.
    let slow = breakdown(&trace, "/slow");
    assert!(slow.network + slow.server >= THINKING, "{slow:?}");
    assert!(slow.server >= THINKING - Duration::from_millis(210), "{slow:?}");
    assert!(slow.read_delay < THINKING / 2, "{slow:?}");
    let drawn = view::waterfall(&trace).to_string();
    assert_eq!(
        drawn.lines().filter(|line| line.contains("own stack") && line.contains("server")).count(),
        2,
        "{drawn}"
    );
}

#[tokio::test]
async fn over_tls_and_http2_the_wait_divides_too() {
    let authority = Authority::new("stamps");
    for (protocol, version) in [("http/1.1", HttpVersion::Http1Only), ("h2", HttpVersion::Http2Only)] {
        let mut config = authority.issue(&["127.0.0.1"]).server();
        config.alpn_protocols = vec![protocol.into()];
        let (web, sink) = (Web::tls(config, think), sink());
        stamping(&sink).await;
        let builder = Client::builder(&sink).nameservers([] as [std::net::SocketAddr; 0]);
        let roots = Roots::from_pem(authority.pem()).unwrap();
        let client = builder.http_version(version).roots(roots).build().unwrap();
        let url = |path: &str| format!("https://{}{path}", web.addr());
        fetch(&client, &url("/")).await;
        fetch(&client, &url("/slow")).await;
        let parts = breakdown(&snapshot(&sink), "/slow");
        assert!(parts.network + parts.server >= THINKING, "{protocol}: {parts:?}");
        assert!(parts.read_delay < THINKING / 2, "{protocol}: {parts:?}");
    }
}

/// Another response came while the request waited, so that it is not known which bytes are whose.
#[tokio::test]
async fn a_request_of_http2_is_not_divided_if_others_were_in_flight() {
    let (web, sink) = (Web::start(think), sink());
    stamping(&sink).await;
    let client = client(&sink, HttpVersion::Http2Only);
    fetch(&client, &web.url("/")).await;
    let (slow, fast) = (web.url("/slow"), web.url("/"));
    tokio::join!(fetch(&client, &slow), fetch(&client, &fast));
    let trace = snapshot(&sink);
    let conns: std::collections::HashSet<_> =
        trace.http_requests.iter().map(|request| &request.tcp_conn).collect();
    assert_eq!(conns.len(), 1);
    let slow = trace.http_requests.iter().find(|request| request.req_url.ends_with("/slow")).unwrap();
    assert_eq!(slow.wait_breakdown(&trace), None);
}

#[tokio::test]
async fn requests_on_other_connections_are_not_divided() {
    let (web, sink) =
        (Web::start(think), TraceSink::builder().probe(TimestampingProbe::new().every(0)).build());
    fetch(&client(&sink, HttpVersion::Auto), &web.url("/")).await;
    let trace = snapshot(&sink);
    assert_eq!(trace.http_requests[0].wait_breakdown(&trace), None);
    assert!(!view::waterfall(&trace).to_string().contains("own stack"));
}

/// The round trip takes 60 ms.
#[test]
fn a_path_with_a_delay_is_the_networks() {
    require_lab!();
    let net = Routed::with_delay(Delay::All(Duration::from_millis(30)));
    let web = Web::on(net.server.listen("10.9.2.2:80"), None, think);
    net.client.block_on(async {
        let sink = sink();
        let client = client(&sink, HttpVersion::Auto);
        fetch(&client, &web.url("/")).await;
        fetch(&client, &web.url("/slow")).await;
        let trace = snapshot(&sink);
        let slow = breakdown(&trace, "/slow");
        assert!(slow.network >= Duration::from_millis(60), "{slow:?}");
        assert!(slow.server >= THINKING - Duration::from_millis(210), "{slow:?}");
        assert!(slow.network + slow.server >= THINKING + Duration::from_millis(60), "{slow:?}");
        assert!(breakdown(&trace, "/").network >= Duration::from_millis(60));
    });
}
