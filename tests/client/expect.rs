//! `Expect: 100-continue` with a client that waits for the answer.

use std::pin::pin;
use std::time::Duration;

use nettrace::client::Body;
use nettrace::record::EndReason;
use tokio::time::{Instant, pause};

use crate::{client, eventually, request, until};
use test_support::raw::{End, Server};

const PATIENCE: Duration = Duration::from_secs(30);
const EXPECT: [(&str, &str); 1] = [("expect", "100-continue")];

fn url(server: &Server) -> String {
    format!("http://{}/", server.addr())
}

#[tokio::test]
async fn the_server_asks_for_the_body() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        assert_eq!(conn.read(4).await?, b"data");
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
        conn.read_to_end().await
    });
    let (client, sink) = client(|builder| builder.expect_continue_timeout(PATIENCE));
    let begin = Instant::now();
    let response = client.request(request("POST", &url(&server), &EXPECT, Body::from("data"))).await.unwrap();
    assert_eq!(response.into_body().bytes().await.unwrap(), "ok");
    assert!(begin.elapsed() < PATIENCE);
    let record = sink.snapshot("").http_requests[0].clone();
    assert_eq!(record.informational.len(), 1);
    assert_eq!((record.informational[0].status, record.req_content_len), (100, 4));
    assert!(record.informational[0].recv_at <= record.req_body_end_at);
}

#[tokio::test]
async fn the_server_says_nothing() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.read(4).await?;
        conn.write(b"HTTP/1.1 204 No Content\r\n\r\n").await
    });
    let (client, _) = client(|builder| builder.expect_continue_timeout(PATIENCE));
    let mut response = pin!(client.request(request("POST", &url(&server), &EXPECT, Body::from("data"))));
    until(response.as_mut(), || server.seen().iter().any(|seen| seen.received.ends_with(b"\r\n\r\n"))).await;
    pause();
    let begin = Instant::now();
    assert_eq!(response.await.unwrap().status(), 204);
    let moment = Duration::from_secs(5);
    assert!(begin.elapsed() + moment >= PATIENCE && begin.elapsed() <= PATIENCE + moment);
}

/// The body is not sent at all: neither while the answer is read, however long that takes, nor after it.
#[tokio::test]
async fn the_server_does_not_want_the_body() {
    let chunked =
        Body::new(http_body_util::StreamBody::new(futures_util::stream::iter([Ok::<_, std::io::Error>(
            http_body::Frame::data("data".into()),
        )])));
    for body in [Body::from("data"), chunked] {
        let server = Server::start(async |mut conn| {
            conn.read_head().await?;
            conn.write(b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\n\r\n").await?;
            conn.write(b"no").await?;
            conn.read_to_end().await
        });
        let (client, sink) = client(|builder| builder.expect_continue_timeout(PATIENCE));
        let response = client.request(request("POST", &url(&server), &EXPECT, body)).await.unwrap();
        assert_eq!(response.status(), 417);
        pause();
        tokio::time::advance(PATIENCE * 2).await;
        assert_eq!(response.into_body().bytes().await.unwrap(), "no");
        // The connection cannot be used again.
        let seen = server.ended(1).await;
        assert!(seen[0].received.ends_with(b"\r\n\r\n"), "{}", String::from_utf8_lossy(&seen[0].received));
        assert_eq!(seen[0].end, End::Done);
        let trace = sink.snapshot("");
        let record = &trace.http_requests[0];
        assert_eq!((record.req_content_len, &record.end_reason), (0, &Some(EndReason::Closed)));
        assert_eq!(record.failure, None);
        eventually(|| sink.snapshot("").tcp_conns[0].end_reason.is_some()).await;
        tokio::time::resume();
    }
}

/// A request without a body does not wait.
#[tokio::test]
async fn nothing_to_send() {
    let server = Server::answering(b"HTTP/1.1 204 No Content\r\n\r\n");
    let (client, _) = client(|builder| builder.expect_continue_timeout(PATIENCE));
    let begin = Instant::now();
    client.request(request("POST", &url(&server), &EXPECT, Body::empty())).await.unwrap();
    assert!(begin.elapsed() < PATIENCE);
}
