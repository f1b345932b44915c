//! `Expect: 100-continue` and `expect_continue_timeout`: when the client sends the body.

use std::pin::pin;
use std::time::Duration;

use nettrace::client::Body;
use nettrace::record::EndReason;
use tokio::time::{Instant, pause};

use crate::{client, eventually, poll_until, request};
use test_support::raw::{End, Server};

const CONTINUE_TIMEOUT: Duration = Duration::from_secs(30);
const EXPECT: [(&str, &str); 1] = [("expect", "100-continue")];

fn url(server: &Server) -> String {
    format!("http://{}/", server.addr())
}

#[tokio::test]
async fn the_body_is_sent_after_100_continue() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        assert_eq!(conn.read(4).await?, b"data");
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
        conn.read_to_end().await
    });
    let (client, sink) = client(|builder| builder.expect_continue_timeout(CONTINUE_TIMEOUT));
    let begin = Instant::now();
    let response = client.request(request("POST", &url(&server), &EXPECT, Body::from("data"))).await.unwrap();
    assert_eq!(response.into_body().bytes().await.unwrap(), "ok");
    assert!(begin.elapsed() < CONTINUE_TIMEOUT);
    let record = sink.snapshot("").http_requests[0].clone();
    assert_eq!(record.informational.len(), 1);
    assert_eq!((record.informational[0].status, record.req_content_len), (100, 4));
    assert!(record.informational[0].recv_at <= record.req_body_end_at);
}

#[tokio::test]
async fn the_body_is_sent_after_the_timeout() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.read(4).await?;
        conn.write(b"HTTP/1.1 204 No Content\r\n\r\n").await
    });
    let (client, _) = client(|builder| builder.expect_continue_timeout(CONTINUE_TIMEOUT));
    let mut response = pin!(client.request(request("POST", &url(&server), &EXPECT, Body::from("data"))));
    poll_until(response.as_mut(), || server.seen().iter().any(|seen| seen.received.ends_with(b"\r\n\r\n")))
        .await;
    pause();
    let begin = Instant::now();
    assert_eq!(response.await.unwrap().status(), 204);
    let tolerance = Duration::from_secs(5);
    assert!(
        begin.elapsed() + tolerance >= CONTINUE_TIMEOUT && begin.elapsed() <= CONTINUE_TIMEOUT + tolerance
    );
}

/// The body is not sent even if the timeout passes before the response has been read.
#[tokio::test]
async fn the_body_is_not_sent_after_a_final_response() {
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
        let (client, sink) = client(|builder| builder.expect_continue_timeout(CONTINUE_TIMEOUT));
        let response = client.request(request("POST", &url(&server), &EXPECT, body)).await.unwrap();
        assert_eq!(response.status(), 417);
        pause();
        tokio::time::advance(CONTINUE_TIMEOUT * 2).await;
        assert_eq!(response.into_body().bytes().await.unwrap(), "no");
        // The connection is not reused: the server could take the next request for the body of this one.
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

#[tokio::test]
async fn a_request_without_a_body_does_not_wait() {
    let server = Server::answering(b"HTTP/1.1 204 No Content\r\n\r\n");
    let (client, _) = client(|builder| builder.expect_continue_timeout(CONTINUE_TIMEOUT));
    let begin = Instant::now();
    client.request(request("POST", &url(&server), &EXPECT, Body::empty())).await.unwrap();
    assert!(begin.elapsed() < CONTINUE_TIMEOUT);
}
