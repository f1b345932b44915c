//! Requests that fail, and how their end shows.

use crate::{client, explained, quoted, root, trace_of};
use futures_util::future::join_all;
use nettrace::{Client, NetTrace, TraceSink, explain::Severity, linux::TcpInfoProbe};
use std::time::Duration;
use test_support::{
    raw::Server,
    web::{ReceivedRequest, Web, reply},
};

#[tokio::test]
async fn a_time_limit_that_runs_out_while_the_server_is_silent() {
    let sink = TraceSink::new();
    let server = Server::start(async |mut conn| conn.read_to_end().await);
    let client = client(&sink).timeout(Duration::from_millis(100)).build().unwrap();
    let trace = trace_of(&sink, &client, &format!("http://{}/", server.addr())).await;
    let root = root(&trace, "http_timed_out");
    assert!(root.sentence.ends_with("while the request waited for the response."), "{}", root.sentence);
    assert_eq!(quoted(&root, "endReason"), "timeout");
}

/// A server that takes 60 ms for each request, and 400 ms for one.
fn slow_web() -> Web {
    Web::start(async |request: ReceivedRequest| {
        let time = if request.path() == "/slower" { 400 } else { 60 };
        tokio::time::sleep(Duration::from_millis(time)).await;
        reply("hello")
    })
}

/// Makes requests at the same time, and returns the trace once everything has ended.
async fn all(sink: &TraceSink, client: &Client, count: usize, url: &str) -> NetTrace {
    join_all((0..count).map(async |_| client.get(url).await.unwrap().into_body().bytes().await.unwrap()))
        .await;
    client.close().await;
    sink.snapshot("")
}

#[tokio::test]
async fn a_time_limit_that_is_shorter_than_what_the_host_usually_takes() {
    let (sink, web) = (TraceSink::new(), slow_web());
    let patient = client(&sink).build().unwrap();
    assert!(explained(&all(&sink, &patient, 5, &web.url("/")).await).is_empty());
    let hasty = client(&sink).timeout(Duration::from_millis(20)).build().unwrap();
    let trace = trace_of(&sink, &hasty, &web.url("/")).await;
    let root = root(&trace, "timeout_below_normal");
    assert_eq!((root.about.as_str(), quoted(&root, "endReason")), ("127.0.0.1", "timeout"));
    assert!(quoted(&root, "respRecvAt").ends_with("the median of 5"));
}

#[tokio::test]
async fn a_response_that_takes_longer_than_the_others_of_its_host() {
    let (sink, web) = (TraceSink::new(), slow_web());
    let client = client(&sink).build().unwrap();
    let (trace, _) = tokio::join!(
        async { trace_of(&sink, &client, &web.url("/slower")).await },
        join_all((0..4).map(async |_| client.get(web.url("/")).await.unwrap().into_body().bytes().await)),
    );
    let root = root(&trace, "http_server_slow");
    assert_eq!((root.about.as_str(), root.severity), ("127.0.0.1", Severity::Degraded));
    assert!(quoted(&root, "respRecvAt").ends_with("the median of 4"));
}

#[tokio::test]
async fn a_server_that_acknowledges_the_request_and_does_not_answer() {
    let sink = TraceSink::builder().probe(TcpInfoProbe::new()).build();
    let server = Server::start(async |mut conn| conn.read_to_end().await);
    let client = client(&sink).timeout(Duration::from_millis(100)).build().unwrap();
    let trace = trace_of(&sink, &client, &format!("http://{}/", server.addr())).await;
    let root = root(&trace, "http_server_slow");
    let acknowledged = (trace.tcp_conns[0].total_sent_bytes + 1).to_string(); // with the SYN
    assert_eq!((quoted(&root, "tcpInfo.bytesAcked"), root.severity), (&*acknowledged, Severity::Failure));
    assert!(root.sentence.starts_with(&format!("{} acknowledged", server.addr())), "{}", root.sentence);
}
