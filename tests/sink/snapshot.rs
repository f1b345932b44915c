//! Snapshots do not disturb traffic, and are consistent at any time.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use http_body_util::BodyExt;
use nettrace::{Client, NetTrace, TraceSink};

use crate::{mock, server::Server};
use test_support::{check, history::History, raw::Refused};

fn without_end_time(mut trace: NetTrace) -> String {
    trace.trace_end_at = Default::default();
    serde_json::to_string(&trace.precise()).unwrap()
}

#[tokio::test]
async fn snapshots_of_an_idle_client_differ_only_in_their_end_time() {
    let server = Server::start().await;
    let sink = TraceSink::new();
    let client = Client::builder(&sink).build().unwrap();
    for path in ["/", "/redirect", "/close"] {
        client.get(server.url(path)).await.unwrap().into_body().bytes().await.unwrap();
    }
    let refused = Refused::on("127.0.0.1:0");
    client.get(format!("http://{}", refused.addr)).await.unwrap_err();
    let first = sink.snapshot("idle");
    let second = sink.snapshot("idle");
    check::running(&first);
    assert_eq!((first.http_requests.len(), first.dials.len()), (5, 2));
    assert!(first.trace_end_at < second.trace_end_at);
    assert_eq!(without_end_time(first), without_end_time(second));
    client.close().await;
    check::finished(&sink.snapshot("closed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn snapshots_are_consistent_while_requests_run() {
    const CLIENTS: usize = 16;
    let server = Server::start().await;
    let refused = Refused::on("127.0.0.1:0");
    let sink = TraceSink::new();
    let client = Client::builder(&sink).build().unwrap();
    let (running, made) = (Arc::new(AtomicUsize::new(CLIENTS)), Arc::new(AtomicUsize::new(0)));
    for task in 0..CLIENTS {
        let urls = match task % 4 {
            0 => [server.url("/"), server.url("/redirect")],
            1 => [server.url("/"), server.url("/close")],
            2 => [server.url("/close"), format!("http://{}", refused.addr)],
            _ => [server.url("/"), server.url("/")],
        };
        let (client, running, made) = (client.clone(), running.clone(), made.clone());
        tokio::spawn(async move {
            for round in 0..60 {
                let response = client.get(&urls[round % 2]).await;
                if let (Ok(response), true) = (response, round % 5 != task % 5) {
                    let _ = response.into_body().collect().await;
                }
                made.fetch_add(1, Relaxed);
            }
            running.fetch_sub(1, Relaxed);
        });
    }
    let (mut history, mut last) = (History::default(), 0);
    while running.load(Relaxed) > 0 {
        let before = made.load(Relaxed);
        let trace = sink.snapshot("meanwhile");
        check::running(&trace);
        history.check(&trace);
        assert!(
            trace.http_requests.len() >= before.max(last),
            "no request of an earlier snapshot is missing"
        );
        last = trace.http_requests.len();
        tokio::task::yield_now().await;
    }
    client.close().await;
    let trace = sink.snapshot("all");
    check::finished(&trace);
    history.check(&trace);
}

#[tokio::test]
async fn a_snapshot_does_not_change_later() {
    let sink = TraceSink::new();
    let (mut conn, _there) = mock::connect(&sink).await;
    let response = mock::begin(&sink, conn.conn_ref(), None).await;
    write(&mut conn, 10).await;
    let early = sink.snapshot("early");
    let text = without_end_time(early.clone());
    write(&mut conn, 90).await;
    mock::finish(response).await;
    drop(conn);
    assert_eq!(without_end_time(early), text);
    let late = sink.snapshot("late");
    assert_eq!(late.tcp_conns[0].socket_trace.as_ref().unwrap().socket_ops.len(), 2);
    check::finished(&late);
}

#[tokio::test]
async fn a_snapshot_can_be_taken_from_any_thread() {
    let sink = TraceSink::new();
    mock::fetch(&sink, None).await;
    let other = sink.clone();
    let trace = std::thread::spawn(move || other.snapshot("elsewhere")).join().unwrap();
    assert_eq!((trace.description.as_str(), trace.http_requests.len()), ("elsewhere", 1));
}

async fn write(conn: &mut (impl hyper::rt::Write + Unpin), len: usize) {
    use tokio::io::AsyncWriteExt;
    hyper_util::rt::TokioIo::new(conn).write_all(&vec![0; len]).await.unwrap();
}
