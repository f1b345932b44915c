//! Streams that the server refuses. It has not processed these requests, so they are sent again (RFC 9113 section 8.7).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use http_body::Frame;
use http_body_util::StreamBody;
use nettrace::TraceSink;
use nettrace::client::{Body, Client, ClientBuilder, HttpVersion};
use nettrace::view::waterfall;

use super::frames::{Frames, REFUSED_STREAM};
use super::tried;
use crate::fixture::{Failed, Fixture, Outcome, ended, fetched};
use test_support::raw::Server;

/// Starts a server that refuses the first `count` streams. Returns it and the number of streams that it has received.
fn refusing(count: usize) -> (Server, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    let server = Server::start(async move |conn| {
        let mut h2 = Frames::accept(conn).await?;
        loop {
            let stream = h2.request().await?;
            match counted.fetch_add(1, SeqCst) {
                index if index < count => h2.reset(stream, REFUSED_STREAM).await?,
                _ => h2.answer(stream).await?,
            }
        }
    });
    (server, seen)
}

fn over_http2(builder: ClientBuilder) -> Client {
    builder.http_version(HttpVersion::Http2Only).build().unwrap()
}

#[tokio::test]
async fn a_refused_request_is_sent_again() {
    let (fixture, (server, seen)) = (Fixture::new().await, refusing(1));
    let client = over_http2(fixture.builder());
    let (body, handle) = fetched(&client, fixture.http(&server)).await;
    assert_eq!((body.as_slice(), seen.load(SeqCst)), (&b"hello"[..], 2));
    let outcome = Outcome::of(&client, &handle).await;
    assert_eq!((ended(&outcome.request), outcome.request.resp_status_code), (("closed", ""), 200));
    let conn = &outcome.conn().trace_id;
    assert_eq!(tried(&outcome.request), [(conn, "x_http2_stream_reset"), (conn, "")]);
    assert!(outcome.request.failure.is_none() && outcome.request.http2_error.is_empty());
    let picture = waterfall(&outcome.trace).to_string();
    assert!(picture.contains("sent again: not processed on"), "{picture}");
    assert_eq!(outcome.trace.slice(&outcome.request.trace_id).http_requests[0], outcome.request);
}

#[tokio::test]
async fn a_refused_request_is_sent_again_if_the_sink_is_disabled() {
    let (server, seen) = refusing(1);
    let client = over_http2(Client::builder(&TraceSink::disabled()));
    let response = client.get(format!("http://{}/", server.addr())).await.expect("a response");
    assert_eq!(response.into_body().bytes().await.unwrap(), "hello");
    assert_eq!(seen.load(SeqCst), 2);
}

#[tokio::test]
async fn a_request_that_is_always_refused_fails() {
    let (fixture, (server, seen)) = (Fixture::new().await, refusing(usize::MAX));
    let failed = crate::fixture::failed(&over_http2(fixture.builder()), fixture.http(&server)).await;
    assert_eq!(seen.load(SeqCst), 4);
    let request = &failed.outcome.request;
    assert_eq!(ended(request), ("failed", "x_http2_stream_reset"));
    assert_eq!(request.http2_error, "REFUSED_STREAM");
    let conn = &failed.outcome.conn().trace_id;
    assert_eq!(tried(request), [(conn, "x_http2_stream_reset"); 4]);
}

#[tokio::test]
async fn the_body_of_a_refused_request_is_sent_again() {
    let fixture = Fixture::new().await;
    let server = Server::start(async |conn| {
        let mut h2 = Frames::accept(conn).await?;
        let refused = h2.request().await?;
        assert_eq!(h2.content().await?, (refused, b"question".into()));
        h2.reset(refused, REFUSED_STREAM).await?;
        let stream = h2.request().await?;
        assert_eq!(h2.content().await?, (stream, b"question".into()));
        h2.answer(stream).await?;
        h2.until_closed().await;
        Ok(())
    });
    let client = over_http2(fixture.builder());
    let response = client.post(fixture.http(&server), "question").await.expect("a response");
    let handle = nettrace::ResponseExt::request_handle(&response).cloned().expect("traced");
    assert_eq!(response.into_body().bytes().await.unwrap(), "hello");
    let outcome = Outcome::of(&client, &handle).await;
    assert_eq!((ended(&outcome.request), outcome.request.req_content_len), (("closed", ""), 8));
    assert!(outcome.request.req_body_end_at >= outcome.request.conn_acquired_at);
}

/// A streamed body can be sent only once.
#[tokio::test]
async fn a_refused_request_with_a_streamed_body_fails() {
    let (fixture, (server, seen)) = (Fixture::new().await, refusing(1));
    let client = over_http2(fixture.builder());
    let pieces = [Ok::<_, io::Error>(Frame::data(Bytes::from_static(b"question")))];
    let body = Body::new(StreamBody::new(futures_util::stream::iter(pieces)));
    let error = client.request(Request::post(fixture.http(&server)).body(body).unwrap()).await;
    let failed = Failed::of(&client, error.expect_err("it was refused")).await;
    assert_eq!(ended(&failed.outcome.request), ("failed", "x_http2_stream_reset"));
    assert_eq!(failed.outcome.request.http2_error, "REFUSED_STREAM");
    assert_eq!(seen.load(SeqCst), 1);
}

/// The requests begin before the client knows that the server allows one stream at a time.
#[tokio::test]
async fn requests_refused_before_the_settings_arrive_are_sent_again() {
    const REQUESTS: usize = 20;
    let fixture = Fixture::new().await;
    let server = Server::start(async |conn| {
        let mut h2 = Frames::listen(conn).await?;
        let first = h2.request().await?;
        let mut others = Vec::new();
        for _ in 1..REQUESTS {
            others.push(h2.request().await?);
        }
        h2.limit_to_one_stream().await?;
        for stream in others {
            h2.reset(stream, REFUSED_STREAM).await?;
        }
        h2.answer(first).await?;
        for _ in 1..REQUESTS {
            let stream = h2.request().await?;
            h2.answer(stream).await?;
        }
        h2.until_closed().await;
        Ok(())
    });
    let client = over_http2(fixture.builder());
    let url = fixture.http(&server);
    let fetched = join_all((0..REQUESTS).map(|_| fetched(&client, &url))).await;
    assert!(fetched.iter().all(|(body, _)| body == b"hello"));
    let outcome = Outcome::of(&client, &fetched[0].1).await;
    let refused = outcome.trace.http_requests.iter().filter(|request| request.attempts.len() == 2);
    assert_eq!(refused.count(), REQUESTS - 1);
}
