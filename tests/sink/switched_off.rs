//! Sinks that are disabled, temporarily or permanently, and sinks that record only some kinds of data.

use http_body_util::BodyExt;
use nettrace::{Client, NetTrace, NotTraced, RequestHandle, ResponseExt, TraceSink};

use crate::{mock, server::Server};
use test_support::check;

#[tokio::test]
async fn records_that_began_before_disabling_are_completed() {
    let sink = TraceSink::new();
    let (mut conn, _there) = mock::connect(&sink).await;
    let handle = RequestHandle::new();
    let response = mock::begin(&sink, conn.conn_ref(), Some(&handle)).await;
    sink.set_enabled(false);
    assert!(!sink.is_enabled());
    let untraced = mock::fetch(&sink, conn.conn_ref()).await;
    mock::connect(&sink).await;
    mock::fail_to_connect(&sink).await;
    tokio::io::AsyncWriteExt::write_all(&mut hyper_util::rt::TokioIo::new(&mut conn), b"12345")
        .await
        .unwrap();
    mock::finish(response).await;
    drop(conn);
    assert!(untraced.id().is_undefined());
    assert_eq!(untraced.timings(), Err(NotTraced));
    assert_eq!(untraced.trace(), NetTrace::default());

    sink.set_enabled(true);
    let again = mock::fetch(&sink, None).await;
    let trace = sink.snapshot("on again");
    check::finished(&trace);
    assert_eq!((trace.http_requests.len(), trace.dials.len(), trace.tcp_conns.len()), (2, 1, 1));
    assert_eq!(trace.http_requests[0].trace_id, handle.id());
    assert_eq!(trace.http_requests[1].trace_id, again.id());
    assert_eq!(trace.tcp_conns[0].total_sent_bytes, 5);
}

#[tokio::test]
async fn a_disabled_sink_records_nothing() {
    let sink = TraceSink::disabled();
    sink.set_enabled(true);
    sink.clear();
    sink.refresh().await;
    let server = Server::start().await;
    let client = Client::builder(&sink).build().unwrap();
    let response = client.get(server.url("/redirect")).await.unwrap();
    assert_eq!(response.timings(), Err(NotTraced));
    assert_eq!(response.collect().await.unwrap().to_bytes(), "hello");
    client.close().await;
    sink.close();
    assert!(!sink.is_enabled());
    let trace = sink.snapshot("nothing");
    assert_eq!((trace.description.as_str(), trace.http_requests.len()), ("nothing", 0));
    assert!(trace.trace_begin_at.is_undefined() && trace.dials.is_empty());
}

#[tokio::test]
async fn requests_and_socket_operations_can_be_switched_off() {
    let sink = TraceSink::builder().http(false).socket_ops(false).build();
    let (mut conn, _there) = mock::connect(&sink).await;
    tokio::io::AsyncWriteExt::write_all(&mut hyper_util::rt::TokioIo::new(&mut conn), b"12345")
        .await
        .unwrap();
    mock::fetch(&sink, conn.conn_ref()).await;
    drop(conn);
    let trace = sink.snapshot("parts");
    check::finished(&trace);
    assert!(trace.http_requests.is_empty());
    assert_eq!((trace.tcp_conns[0].total_sent_bytes, &trace.tcp_conns[0].socket_trace), (5, &None));
}
