//! Where a layer sees the requests, they are not recorded a second time.

use crate::fixture::{Body, connector, finished};
use http_body_util::BodyExt as _;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use nettrace::{
    TraceSink,
    connect::{TcpConnector, TraceConnectLayer},
    request::{TraceBody, TraceRequestLayer},
    wire::TraceWireLayer,
};
use test_support::web::{Web, reply};
use tower::{Layer as _, ServiceExt as _};

#[tokio::test]
async fn a_request_layer_above_has_the_only_record() {
    for h2 in [false, true] {
        let sink = TraceSink::new();
        let web = Web::start(async |_| reply("hello"));
        let pool: legacy::Client<_, TraceBody<Body>> =
            legacy::Client::builder(TokioExecutor::new()).http2_only(h2).build(connector(&sink));
        let client = TraceRequestLayer::new(&sink).layer(pool);
        for _ in 0..3 {
            let request = http::Request::get(web.url("/")).body(Body::new()).unwrap();
            client.clone().oneshot(request).await.unwrap().into_body().collect().await.unwrap();
        }
        drop(client);
        let trace = finished(&sink).await;
        assert_eq!(trace.http_requests.len(), 3);
        assert!(trace.http_requests.iter().all(|request| !request.seen_on_wire));
        assert!(trace.tcp_conns[0].wire.is_none());
    }
}

/// Makes a request over a connection that `traced` records and `reader` reads.
async fn request(web: &Web, traced: &TraceSink, reader: &TraceSink) {
    let connector = TraceConnectLayer::new(traced).layer(HttpConnector::new());
    let client: legacy::Client<_, Body> =
        legacy::Client::builder(TokioExecutor::new()).build(TraceWireLayer::new(reader).layer(connector));
    client.get(web.url("/").parse().unwrap()).await.unwrap().into_body().collect().await.unwrap();
}

#[tokio::test]
async fn a_connection_of_another_sink_is_not_read() {
    let web = Web::start(async |_| reply("hello"));
    let sink = TraceSink::new();
    for reader in [TraceSink::new(), TraceSink::disabled()] {
        request(&web, &sink, &reader).await;
        assert!(reader.snapshot("").http_requests.is_empty());
    }
    let trace = sink.snapshot("");
    assert!(trace.http_requests.is_empty());
    assert!(trace.tcp_conns.iter().all(|conn| conn.wire.is_none()));
}

#[tokio::test]
async fn a_sink_that_is_off_reads_nothing() {
    let (web, sink) = (Web::start(async |_| reply("hello")), TraceSink::new());
    sink.set_enabled(false);
    request(&web, &sink, &sink).await;
    sink.set_enabled(true);
    assert!(sink.snapshot("").tcp_conns.is_empty() && sink.snapshot("").http_requests.is_empty());
}

#[tokio::test]
async fn requests_through_a_proxy_are_read() {
    let (sink, web) = (TraceSink::new(), Web::start(async |_| reply("hello")));
    let target = web.addr();
    let proxy = test_support::raw::Server::start(async move |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\n\r\n").await?;
        let mut server = tokio::net::TcpStream::connect(target).await?;
        let head = conn.read_head().await?;
        tokio::io::AsyncWriteExt::write_all(&mut server, head.as_bytes()).await?;
        let mut answer = vec![0; 1000];
        let length = tokio::io::AsyncReadExt::read(&mut server, &mut answer).await?;
        conn.write(&answer[..length]).await?;
        conn.close().await
    });
    let proxy = nettrace::proxy::Proxy::try_from(&*format!("http://{}", proxy.addr())).unwrap();
    let connector =
        nettrace::proxy::ProxyLayer::new(&sink, proxy).tunnel_http(true).layer(TcpConnector::new(&sink));
    let client: legacy::Client<_, Body> =
        legacy::Client::builder(TokioExecutor::new()).build(TraceWireLayer::new(&sink).layer(connector));
    client.get(web.url("/a").parse().unwrap()).await.unwrap().into_body().collect().await.unwrap();
    drop(client);
    let trace = finished(&sink).await;
    let read: Vec<_> = trace.http_requests.iter().map(|r| (r.req_method.as_str(), r.seen_on_wire)).collect();
    assert!(read.contains(&("GET", true)), "{read:?}");
}
