//! HTTP/2 streams that fail while others of the same connection go on.

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
async fn a_stream_is_reset() {
    let two = Two::start(async |h2, first, second| {
        h2.reset(first, INTERNAL_ERROR).await?;
        h2.answer(second).await
    });
    let outcome = first_fails(two.await, "x_http2_stream_reset").await;
    assert_eq!((outcome.request.resp_status_code, outcome.request.resp_content_len), (0, 0));
}

#[tokio::test]
async fn a_stream_is_reset_within_its_body() {
    let two = Two::start(async |h2, first, second| {
        h2.header(first).await?;
        h2.data(first, b"half!", false).await?;
        h2.reset(first, INTERNAL_ERROR).await?;
        h2.answer(second).await
    });
    let outcome = first_fails(two.await, "x_http2_stream_reset").await;
    assert_eq!((outcome.request.resp_status_code, outcome.request.resp_content_len), (200, 5));
    assert!(outcome.request.resp_body_end_at.is_undefined());
}

#[tokio::test]
async fn a_stream_is_dropped() {
    let both_have_come = Arc::new(Notify::new());
    let say = both_have_come.clone();
    let two = Two::start(async move |h2, first, second| {
        say.notify_one();
        assert_eq!(h2.was_reset().await?, (first, CANCEL));
        h2.answer(second).await
    })
    .await;
    both_have_come.notified().await;
    two.first.body.abort();
    assert_eq!(two.second.body.await.expect("no panic").expect("a response"), b"hello");
    let outcome = Outcome::of(&two.client, &two.first.handle).await;
    assert_eq!(ended(&outcome.request), ("cancelled", "interrupted"));
    outcome.assert_on(outcome.conn());
    assert_lived_on(&outcome, &two.second.handle);
}

/// GOAWAY names the streams that were not processed. Earlier ones go on, and new requests use another connection.
/// If the server goes away because of an error, requests that it has not processed fail.
#[tokio::test]
async fn the_server_goes_away() {
    let two = Two::start(async |h2, first, _| {
        h2.go_away(first, ENHANCE_YOUR_CALM).await?;
        h2.answer(first).await
    })
    .await;
    let error = two.second.body.await.expect("no panic").expect_err("it was not looked at");
    assert_eq!(two.first.body.await.expect("no panic").expect("a response"), b"hello");
    let (_, third) = fetched(&two.client, two.fixture.http(&two.server)).await;

    let failed = Failed::of(&two.client, error).await;
    let outcome = &failed.outcome;
    assert_eq!(ended(&outcome.request), ("failed", "x_http2_goaway"));
    assert_eq!(outcome.request.http2_error, "ENHANCE_YOUR_CALM");
    let [left, fresh] = outcome.attempts()[..] else { panic!("two connections") };
    let request = |handle: &RequestHandle| outcome.trace.http_requests.get(handle.id()).expect("recorded");
    let first = request(&two.first.handle);
    assert_eq!((ended(first), &first.tcp_conn), (("closed", ""), &left.trace_id));
    assert_eq!(outcome.request.tcp_conn, left.trace_id);
    assert!(outcome.request.attempts.is_empty());
    assert_eq!((ended(request(&third)), &request(&third).tcp_conn), (("closed", ""), &fresh.trace_id));
    assert_eq!((ended(left), ended(fresh)), (("closed", ""), ("closed", "")));
}

/// A request that the server has not processed is sent again over another connection.
#[tokio::test]
async fn the_server_goes_away_in_peace() {
    let two = Two::start(async |h2, first, _| {
        h2.go_away(first, NO_ERROR).await?;
        h2.answer(first).await
    })
    .await;
    for body in [two.first.body, two.second.body] {
        assert_eq!(body.await.expect("no panic").expect("a response"), b"hello");
    }
    let outcome = Outcome::of(&two.client, &two.second.handle).await;
    let [left, fresh] = outcome.attempts()[..] else { panic!("two connections") };
    assert_eq!(ended(&outcome.request), ("closed", ""));
    assert_eq!(tried(&outcome.request), [(&left.trace_id, "x_http2_goaway"), (&fresh.trace_id, "")]);
    assert!(outcome.request.http2_error.is_empty());
    let picture = waterfall(&outcome.trace).to_string();
    assert!(picture.contains("sent again: not processed on"), "{picture}");
}

/// The first GOAWAY of a graceful shutdown leaves no stream out (RFC 9113 section 6.8): what the server may have
/// processed is not sent again when it closes the connection then.
#[tokio::test]
async fn the_server_announces_that_it_goes_away() {
    const ALL: u32 = (1 << 31) - 1;
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let server = Server::start(async move |conn| {
        let mut h2 = Frames::accept(conn).await?;
        h2.request().await?;
        h2.content().await?;
        count.fetch_add(1, SeqCst);
        h2.go_away(ALL, NO_ERROR).await?;
        h2.into_inner().close().await
    });
    let fixture = Fixture::new().await;
    let client = fixture.builder().http_version(HttpVersion::Http2Only).build().unwrap();
    let error = client.post(fixture.http(&server), "order").await.expect_err("no response");
    let failed = Failed::of(&client, error).await;
    assert_eq!((ended(&failed.outcome.request).0, seen.load(SeqCst)), ("failed", 1));
    assert!(failed.outcome.request.attempts.is_empty());
}

fn tried(request: &HttpReqTrace) -> Vec<(&TraceId, &str)> {
    let name = Failure::as_str;
    request.attempts.iter().map(|it| (&it.tcp_conn, it.failure.as_ref().map_or("", name))).collect()
}

#[tokio::test]
async fn the_server_goes_away_when_all_is_done() {
    let two = Two::start(async |h2, first, second| {
        h2.go_away(second, NO_ERROR).await?;
        h2.answer(first).await?;
        h2.answer(second).await
    })
    .await;
    for body in [two.first.body, two.second.body] {
        assert_eq!(body.await.expect("no panic").expect("a response"), b"hello");
    }
    let (_, third) = fetched(&two.client, two.fixture.http(&two.server)).await;
    let outcome = Outcome::of(&two.client, &third).await;
    let [left, fresh] = outcome.attempts()[..] else { panic!("two connections") };
    assert_eq!(outcome.request.tcp_conn, fresh.trace_id);
    assert!(outcome.request.attempts.is_empty(), "it was not tried on the one that was left");
    let on_left = |request: &&HttpReqTrace| request.tcp_conn == left.trace_id;
    assert_eq!(outcome.trace.http_requests.iter().filter(on_left).count(), 2);
    assert!(outcome.trace.http_requests.iter().all(|request| ended(request) == ("closed", "")));
}

#[tokio::test]
async fn the_connection_ends_under_its_streams() {
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
async fn the_server_speaks_another_protocol() {
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

/// Two requests on their way over one connection.
struct Two {
    fixture: Fixture,
    client: Client,
    server: Server,
    first: Running,
    second: Running,
}

struct Running {
    handle: RequestHandle,
    body: JoinHandle<Result<Vec<u8>, ClientError>>,
}

impl Two {
    /// The script begins when both have come; further connections are answered well.
    async fn start(script: impl AsyncFn(&mut Frames, u32, u32) -> io::Result<()> + Send + 'static) -> Self {
        let (fixture, first_has_come) = (Fixture::new().await, Arc::new(Notify::new()));
        let say = first_has_come.clone();
        let server = Server::start(async move |conn| {
            let is_first = conn.index == 0;
            let mut h2 = Frames::accept(conn).await?;
            let first = h2.request().await?;
            if is_first {
                say.notify_one();
                let second = h2.request().await?;
                script(&mut h2, first, second).await?;
            } else {
                h2.answer(first).await?;
            }
            h2.until_closed().await;
            Ok(())
        });
        let client = fixture.builder().http_version(HttpVersion::Http2Only).build().unwrap();
        let first = Running::start(&client, &fixture.http(&server));
        first_has_come.notified().await;
        let second = Running::start(&client, &fixture.http(&server));
        Self { fixture, client, server, first, second }
    }
}

impl Running {
    fn start(client: &Client, url: &str) -> Self {
        let (request, handle) = request(url);
        let response = client.request(request);
        let body = tokio::spawn(async { response.await?.into_body().bytes().await.map(Vec::from) });
        Self { handle, body }
    }
}

/// The first request fails and the second succeeds, on the same connection, which stays open.
async fn first_fails(two: Two, failure: &str) -> Outcome {
    let error = two.first.body.await.expect("no panic").expect_err("its stream was reset");
    assert_eq!(two.second.body.await.expect("no panic").expect("a response"), b"hello");
    let outcome = Failed::of(&two.client, error).await.outcome;
    assert_eq!(ended(&outcome.request), ("failed", failure));
    outcome.assert_on(outcome.conn());
    assert_lived_on(&outcome, &two.second.handle);
    outcome
}

#[track_caller]
fn assert_lived_on(outcome: &Outcome, other: &RequestHandle) {
    let other = outcome.trace.http_requests.get(other.id()).expect("recorded");
    assert_eq!(ended(other), ("closed", ""));
    assert_eq!((other.tcp_conn.as_str(), other.resp_status_code), (outcome.conn().trace_id.as_str(), 200));
    assert_eq!((other.proto_major, outcome.request.proto_major), (2, 2));
    assert_eq!(ended(outcome.conn()), ("closed", ""));
}
