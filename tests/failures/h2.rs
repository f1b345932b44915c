//! HTTP/2 streams that fail while other streams of the same connection continue.

mod cut_off;
mod frames;
mod refused;
mod version;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use nettrace::client::{Client, ClientError, HttpVersion};
use nettrace::record::HttpReqTrace;
use nettrace::view::waterfall;
use nettrace::{Failure, RequestHandle, TraceId};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use self::frames::{CANCEL, ENHANCE_YOUR_CALM, Frames, INTERNAL_ERROR, NO_ERROR};
use crate::fixture::{Failed, Fixture, Outcome, ended, fetched, request};
use test_support::raw::Server;

#[tokio::test]
async fn a_stream_reset_fails_only_its_own_request() {
    let pair = RequestPair::start(async |h2, first, second| {
        h2.reset(first, INTERNAL_ERROR).await?;
        h2.answer(second).await
    });
    let outcome = assert_first_fails(pair.await, "x_http2_stream_reset").await;
    assert_eq!((outcome.request.resp_status_code, outcome.request.resp_content_len), (0, 0));
}

#[tokio::test]
async fn a_stream_reset_within_the_body_fails_only_its_own_request() {
    let pair = RequestPair::start(async |h2, first, second| {
        h2.header(first).await?;
        h2.data(first, b"half!", false).await?;
        h2.reset(first, INTERNAL_ERROR).await?;
        h2.answer(second).await
    });
    let outcome = assert_first_fails(pair.await, "x_http2_stream_reset").await;
    assert_eq!((outcome.request.resp_status_code, outcome.request.resp_content_len), (200, 5));
    assert!(outcome.request.resp_body_end_at.is_undefined());
}

#[tokio::test]
async fn dropping_a_request_resets_only_its_own_stream() {
    let both_received = Arc::new(Notify::new());
    let notify = both_received.clone();
    let pair = RequestPair::start(async move |h2, first, second| {
        notify.notify_one();
        assert_eq!(h2.was_reset().await?, (first, CANCEL));
        h2.answer(second).await
    })
    .await;
    both_received.notified().await;
    pair.first.body.abort();
    assert_eq!(pair.second.body.await.expect("no panic").expect("a response"), b"hello");
    let outcome = Outcome::of(&pair.client, &pair.first.handle).await;
    assert_eq!(ended(&outcome.request), ("cancelled", "interrupted"));
    outcome.assert_on(outcome.conn());
    assert_unaffected(&outcome, &pair.second.handle);
}

/// GOAWAY contains the last stream that the server processes (RFC 9113 section 6.8). Earlier streams continue, and new
/// requests use another connection. If GOAWAY has an error code, requests that were not processed fail.
#[tokio::test]
async fn unprocessed_requests_fail_after_goaway_with_an_error() {
    let pair = RequestPair::start(async |h2, first, _| {
        h2.go_away(first, ENHANCE_YOUR_CALM).await?;
        h2.answer(first).await
    })
    .await;
    let error = pair.second.body.await.expect("no panic").expect_err("the server did not process it");
    assert_eq!(pair.first.body.await.expect("no panic").expect("a response"), b"hello");
    let (_, third) = fetched(&pair.client, pair.fixture.http(&pair.server)).await;

    let failed = Failed::of(&pair.client, error).await;
    let outcome = &failed.outcome;
    assert_eq!(ended(&outcome.request), ("failed", "x_http2_goaway"));
    assert_eq!(outcome.request.http2_error, "ENHANCE_YOUR_CALM");
    let [old, new] = outcome.attempts()[..] else { panic!("two connections") };
    let request = |handle: &RequestHandle| outcome.trace.http_requests.get(handle.id()).expect("recorded");
    let first = request(&pair.first.handle);
    assert_eq!((ended(first), &first.tcp_conn), (("closed", ""), &old.trace_id));
    assert_eq!(outcome.request.tcp_conn, old.trace_id);
    assert!(outcome.request.attempts.is_empty());
    assert_eq!((ended(request(&third)), &request(&third).tcp_conn), (("closed", ""), &new.trace_id));
    assert_eq!((ended(old), ended(new)), (("closed", ""), ("closed", "")));
}

#[tokio::test]
async fn unprocessed_requests_are_sent_again_after_goaway_without_an_error() {
    let pair = RequestPair::start(async |h2, first, _| {
        h2.go_away(first, NO_ERROR).await?;
        h2.answer(first).await
    })
    .await;
    for body in [pair.first.body, pair.second.body] {
        assert_eq!(body.await.expect("no panic").expect("a response"), b"hello");
    }
    let outcome = Outcome::of(&pair.client, &pair.second.handle).await;
    let [old, new] = outcome.attempts()[..] else { panic!("two connections") };
    assert_eq!(ended(&outcome.request), ("closed", ""));
    assert_eq!(tried(&outcome.request), [(&old.trace_id, "x_http2_goaway"), (&new.trace_id, "")]);
    assert!(outcome.request.http2_error.is_empty());
    let picture = waterfall(&outcome.trace).to_string();
    assert!(picture.contains("sent again: not processed on"), "{picture}");
}

/// The first GOAWAY of a graceful shutdown has the largest stream ID (RFC 9113 section 6.8). If the server then closes
/// the connection, it may have processed any request, so none is sent again.
#[tokio::test]
async fn a_request_that_goaway_does_not_exclude_is_not_sent_again() {
    const MAX_STREAM_ID: u32 = (1 << 31) - 1;
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let server = Server::start(async move |conn| {
        let mut h2 = Frames::accept(conn).await?;
        h2.request().await?;
        h2.content().await?;
        count.fetch_add(1, SeqCst);
        h2.go_away(MAX_STREAM_ID, NO_ERROR).await?;
        h2.into_inner().close().await
    });
    let fixture = Fixture::new().await;
    let client = fixture.builder().http_version(HttpVersion::Http2Only).build().unwrap();
    let error = client.post(fixture.http(&server), "order").await.expect_err("no response");
    let failed = Failed::of(&client, error).await;
    assert_eq!((ended(&failed.outcome.request).0, seen.load(SeqCst)), ("failed", 1));
    assert!(failed.outcome.request.attempts.is_empty());
}

/// Returns the connection and the failure code of each attempt to send the request.
fn tried(request: &HttpReqTrace) -> Vec<(&TraceId, &str)> {
    let name = Failure::as_str;
    request.attempts.iter().map(|it| (&it.tcp_conn, it.failure.as_ref().map_or("", name))).collect()
}

#[tokio::test]
async fn goaway_after_the_last_stream_fails_no_request() {
    let pair = RequestPair::start(async |h2, first, second| {
        h2.go_away(second, NO_ERROR).await?;
        h2.answer(first).await?;
        h2.answer(second).await
    })
    .await;
    for body in [pair.first.body, pair.second.body] {
        assert_eq!(body.await.expect("no panic").expect("a response"), b"hello");
    }
    let (_, third) = fetched(&pair.client, pair.fixture.http(&pair.server)).await;
    let outcome = Outcome::of(&pair.client, &third).await;
    let [old, new] = outcome.attempts()[..] else { panic!("two connections") };
    assert_eq!(outcome.request.tcp_conn, new.trace_id);
    assert!(outcome.request.attempts.is_empty(), "it was not tried on the old connection");
    let on_old = |request: &&HttpReqTrace| request.tcp_conn == old.trace_id;
    assert_eq!(outcome.trace.http_requests.iter().filter(on_old).count(), 2);
    assert!(outcome.trace.http_requests.iter().all(|request| ended(request) == ("closed", "")));
}

#[tokio::test]
async fn the_end_of_a_connection_fails_its_streams() {
    for (reset, failure, end) in [
        (false, "eof_error", ("peer-closed", "")),
        (true, "connection_reset", ("failed", "connection_reset")),
    ] {
        let fixture = Fixture::new().await;
        let server = Server::start(async move |conn| {
            let mut h2 = Frames::accept(conn).await?;
            h2.request().await?;
            if reset { h2.into_inner().reset() } else { h2.into_inner().close().await }
        });
        let client = fixture.builder().http_version(HttpVersion::Http2Only).build().unwrap();
        let failed = crate::fixture::failed(&client, fixture.http(&server)).await;
        assert_eq!(ended(&failed.outcome.request), ("failed", failure));
        failed.outcome.assert_on(failed.outcome.conn());
        assert_eq!(ended(failed.outcome.conn()), end);
    }
}

#[tokio::test]
async fn an_http1_response_fails_an_http2_request() {
    let fixture = Fixture::new().await;
    let server = Server::start(async |conn| {
        let mut h2 = Frames::listen(conn).await?;
        h2.request().await?;
        let mut conn = h2.into_inner();
        conn.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await?;
        conn.read_to_end().await
    });
    let client = fixture.builder().http_version(HttpVersion::Http2Only).build().unwrap();
    let failed = crate::fixture::failed(&client, fixture.http(&server)).await;
    assert_eq!(ended(&failed.outcome.request), ("failed", "x_http_protocol_error"), "{}", failed.error);
    failed.outcome.assert_on(failed.outcome.conn());
}

/// Two requests in flight on one connection.
struct RequestPair {
    fixture: Fixture,
    client: Client,
    server: Server,
    first: RunningRequest,
    second: RunningRequest,
}

/// A request that runs in a task of its own.
struct RunningRequest {
    handle: RequestHandle,
    body: JoinHandle<Result<Vec<u8>, ClientError>>,
}

impl RequestPair {
    /// Makes both requests. The script runs once the server has received both. On further connections the server sends
    /// a complete response.
    async fn start(script: impl AsyncFn(&mut Frames, u32, u32) -> io::Result<()> + Send + 'static) -> Self {
        let (fixture, first_received) = (Fixture::new().await, Arc::new(Notify::new()));
        let notify = first_received.clone();
        let server = Server::start(async move |conn| {
            let is_first = conn.index == 0;
            let mut h2 = Frames::accept(conn).await?;
            let first = h2.request().await?;
            if is_first {
                notify.notify_one();
                let second = h2.request().await?;
                script(&mut h2, first, second).await?;
            } else {
                h2.answer(first).await?;
            }
            h2.until_closed().await;
            Ok(())
        });
        let client = fixture.builder().http_version(HttpVersion::Http2Only).build().unwrap();
        let first = RunningRequest::start(&client, &fixture.http(&server));
        first_received.notified().await;
        let second = RunningRequest::start(&client, &fixture.http(&server));
        Self { fixture, client, server, first, second }
    }
}

impl RunningRequest {
    fn start(client: &Client, url: &str) -> Self {
        let (request, handle) = request(url);
        let response = client.request(request);
        let body = tokio::spawn(async { response.await?.into_body().bytes().await.map(Vec::from) });
        Self { handle, body }
    }
}

/// Asserts that the first request fails and the second succeeds, on the same connection, which stays open. Returns the
/// outcome of the first.
async fn assert_first_fails(pair: RequestPair, failure: &str) -> Outcome {
    let error = pair.first.body.await.expect("no panic").expect_err("its stream was reset");
    assert_eq!(pair.second.body.await.expect("no panic").expect("a response"), b"hello");
    let outcome = Failed::of(&pair.client, error).await.outcome;
    assert_eq!(ended(&outcome.request), ("failed", failure));
    outcome.assert_on(outcome.conn());
    assert_unaffected(&outcome, &pair.second.handle);
    outcome
}

/// Asserts that the other request succeeded on the same connection.
#[track_caller]
fn assert_unaffected(outcome: &Outcome, other: &RequestHandle) {
    let other = outcome.trace.http_requests.get(other.id()).expect("recorded");
    assert_eq!(ended(other), ("closed", ""));
    assert_eq!((other.tcp_conn.as_str(), other.resp_status_code), (outcome.conn().trace_id.as_str(), 200));
    assert_eq!((other.proto_major, outcome.request.proto_major), (2, 2));
    assert_eq!(ended(outcome.conn()), ("closed", ""));
}
