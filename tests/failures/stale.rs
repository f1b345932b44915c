//! Kept-alive connections that the server closes before or while they are reused.

use std::sync::Arc;

use nettrace::record::Attempt;
use tokio::sync::Notify;

use crate::fixture::{Fixture, Outcome, ended, failed, fetched, reached};
use test_support::raw::Server;

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// The client notices the close only after the next request has taken the connection.
#[tokio::test]
async fn a_request_that_was_not_written_is_sent_on_another_connection() {
    let fixture = Fixture::new().await;
    let (server, close) = server_that_closes_on_notify();
    let client = fixture.client();
    let (_, first) = fetched(&client, fixture.http(&server)).await;
    close.notify_one();
    server.ended_unseen(1).await;
    let (body, second) = fetched(&client, fixture.http(&server)).await;
    assert_eq!(body, b"hello");

    let outcome = Outcome::of(&client, &second).await;
    let [stale, fresh] = outcome.attempts()[..] else { panic!("two connections") };
    assert_eq!(ended(&outcome.request), ("closed", ""));
    outcome.assert_on(fresh);
    let tried: Vec<_> = outcome.request.attempts.iter().map(tried_on).collect();
    assert_eq!(tried, [(stale.trace_id.as_str(), "eof_error"), (fresh.trace_id.as_str(), "")]);
    assert_eq!(ended(stale), ("peer-closed", ""));
    let first = outcome.trace.http_requests.get(first.id()).expect("recorded");
    assert_eq!((&first.tcp_conn, ended(first)), (&stale.trace_id, ("closed", "")));
    assert!(first.attempts.is_empty());
    assert_eq!(stale.total_recv_bytes, HELLO.len() as u64, "the second response arrived elsewhere");
    let dial = outcome.trace.dials.get(&fresh.from_dial).expect("a dial");
    assert!(dial.dial_begin_at >= outcome.request.req_sent_at);
}

/// The server may have processed a request that was written.
#[tokio::test]
async fn a_request_that_was_written_is_not_sent_again() {
    let fixture = Fixture::new().await;
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(HELLO).await?;
        conn.read_head().await?;
        conn.close().await
    });
    let client = fixture.client();
    let (_, first) = fetched(&client, fixture.http(&server)).await;
    let failed = failed(&client, fixture.http(&server)).await;
    let (outcome, conn) = (&failed.outcome, failed.outcome.conn());
    assert_eq!(ended(&outcome.request), ("failed", "eof_error"));
    assert_eq!(outcome.request.tcp_conn, conn.trace_id);
    assert!(outcome.request.attempts.is_empty());
    assert_eq!(outcome.dial().triggered_by, first.id(), "the first request triggered the dial");
    assert_eq!(ended(conn), ("peer-closed", ""));
    let timings = outcome.request.timings(&outcome.trace);
    assert!(timings.dns.is_none() && timings.connect.is_none() && timings.wait.is_some(), "{timings}");
}

#[tokio::test]
async fn a_connection_is_not_reused_after_the_client_has_noticed_the_close() {
    let fixture = Fixture::new().await;
    let (server, close) = server_that_closes_on_notify();
    let client = fixture.client();
    let (_, first) = fetched(&client, fixture.http(&server)).await;
    close.notify_one();
    reached(&fixture.sink, |trace| trace.tcp_conns.iter().any(|conn| conn.end_reason.is_some())).await;
    let (_, second) = fetched(&client, fixture.http(&server)).await;
    let outcome = Outcome::of(&client, &second).await;
    assert_eq!(outcome.attempts().len(), 2);
    assert!(outcome.request.attempts.is_empty());
    assert_ne!(
        outcome.request.tcp_conn,
        outcome.trace.http_requests.get(first.id()).expect("recorded").tcp_conn
    );
    assert_eq!(ended(outcome.attempts()[0]), ("peer-closed", ""));
}

/// Starts a server that answers one request on each connection, and closes a connection for each notification.
fn server_that_closes_on_notify() -> (Server, Arc<Notify>) {
    let close = Arc::new(Notify::new());
    let notified = close.clone();
    let server = Server::start(async move |mut conn| {
        conn.read_head().await?;
        conn.write(HELLO).await?;
        notified.notified().await;
        conn.close().await
    });
    (server, close)
}

/// Returns the connection and the failure code of an attempt.
fn tried_on(attempt: &Attempt) -> (&str, &str) {
    (attempt.tcp_conn.as_str(), attempt.failure.as_ref().map_or("", |failure| failure.as_str()))
}
