//! `TraceSink::close` ends the recording, but not the traffic.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use nettrace::{
    Client, FinishedRecord, NetTrace, ResponseExt, TraceSink,
    connect::{KeepAlive, TcpConnector},
    record::EndReason,
    resolve::StubResolver,
    tls::TraceTlsLayer,
};
use tower::{Layer, Service};

use crate::{mock, server::Server};
use test_support::{check, dns::DnsServer, history::records, pki, wait};

#[track_caller]
fn assert_all_ended(trace: &NetTrace) {
    check::running(trace);
    for (record, end) in records(trace) {
        assert!(end.is_some(), "{record:?}");
    }
}

#[tokio::test]
async fn close_ends_open_records_and_prevents_new_ones() {
    let server = Server::start().await;
    let silent = DnsServer::silent().await;
    let silent_server = pki::serve_tcp(|stream| async move {
        let _keep = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let published = Arc::new(AtomicUsize::new(0));
    let counter = published.clone();
    let sink = TraceSink::builder()
        .subscriber(move |_: &FinishedRecord| {
            counter.fetch_add(1, Relaxed);
        })
        .build();
    let client = Client::builder(&sink).build().unwrap();
    client.get(server.url("/")).await.unwrap().into_body().bytes().await.unwrap();
    let held = tokio::spawn(client.get(server.url("/held")));
    server.holds_one().await;
    // A lookup and a TLS handshake that never complete.
    let resolver =
        StubResolver::builder(&sink).nameservers([silent.addr()]).hosts_file(None).build().unwrap();
    let connector = TcpConnector::new(&sink).resolver(resolver).keep_alive(KeepAlive::Off);
    let looking_up = tokio::spawn({
        let mut connector = connector.clone();
        connector.call("http://some.test".parse().unwrap())
    });
    let tls = TraceTlsLayer::builder(&sink).danger_accept_invalid_certs().build();
    let handshaking =
        tokio::spawn(tls.layer(connector).call(format!("https://{silent_server}").parse().unwrap()));
    silent.wait_for_queries(2).await;
    wait::until("a tunnel", || !sink.snapshot("soon").tls_tunnels.is_empty()).await;
    let published_before = published.load(Relaxed);

    sink.close();
    let closed = sink.snapshot("closed");
    assert_all_ended(&closed);
    let reasons =
        |reason: &EndReason| records(&closed).iter().filter(|(_, end)| end.as_ref() == Some(reason)).count();
    // The held request and its connection, two lookups with their sockets, the dial that waits for them, and a
    // connection with its tunnel.
    assert!(reasons(&EndReason::SinkClosed) >= 9, "{closed:#?}");
    assert!(!sink.is_enabled());

    // Closing again and enabling have no effect.
    sink.close();
    sink.set_enabled(true);
    assert!(!sink.is_enabled());

    server.released.add_permits(1);
    let response = held.await.unwrap().unwrap();
    let handle = response.request_handle().cloned();
    assert_eq!(response.into_body().bytes().await.unwrap(), "hello");
    let untraced = client.get(server.url("/")).await.unwrap();
    assert!(
        untraced.timings().is_err()
            && untraced.request_handle().is_none_or(|handle| handle.id().is_undefined())
    );
    assert_eq!(untraced.into_body().bytes().await.unwrap(), "hello");
    mock::fail_to_connect(&sink).await;
    looking_up.abort();
    handshaking.abort();
    let _ = (looking_up.await, handshaking.await);
    client.close().await;

    let mut later = sink.snapshot("closed");
    later.trace_end_at = closed.trace_end_at;
    assert_eq!(later, closed, "nothing is recorded any more");
    assert_eq!(handle.unwrap().trace().http_requests.len(), 1, "the handle can still be read");
    assert_eq!(published.load(Relaxed), published_before, "subscribers get no records any more");
}

/// Closes the sink at different moments, while other threads begin records.
#[test]
fn close_ends_all_records_at_any_moment() {
    for close_after in 0..40 {
        let sink = TraceSink::new();
        let made = AtomicUsize::new(0);
        let make = async || {
            let mut kept = Vec::new();
            while sink.is_enabled() && made.load(Relaxed) < close_after + 50 {
                let (conn, there) = mock::connect(&sink).await;
                kept.push((mock::begin(&sink, conn.conn_ref(), None).await, conn, there));
                made.fetch_add(1, Relaxed);
            }
        };
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(make());
                });
            }
            scope.spawn(|| {
                let records = format!("{close_after} records");
                wait::until_blocking(records, || made.load(Relaxed) >= close_after);
                sink.close();
            });
        });
        assert_all_ended(&sink.snapshot("closed"));
    }
}

#[tokio::test]
async fn a_closed_sink_can_be_cleared() {
    let sink = TraceSink::new();
    let (conn, _there) = mock::connect(&sink).await;
    let response = mock::begin(&sink, conn.conn_ref(), None).await;
    sink.close();
    sink.clear();
    assert!(records(&sink.snapshot("cleared")).is_empty());
    assert_eq!(mock::finish(response).await, "hello");
    drop(conn);
    sink.refresh().await;
    assert!(records(&sink.snapshot("cleared")).is_empty());
}
