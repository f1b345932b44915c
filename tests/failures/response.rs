//! Responses that are incomplete, malformed or missing.

use nettrace::record::Timings;

use crate::fixture::{Failed, Fixture, ended, failed, tls_server};
use test_support::raw::{Conn, Server};

#[tokio::test]
async fn closed_before_the_header() {
    let failed = answered(async |mut conn| {
        conn.read_head().await?;
        conn.close().await
    })
    .await;
    assert_cut_off(&failed, "eof_error", Progress::NOTHING);
    assert_eq!(ended(failed.outcome.conn()), ("peer-closed", ""));
}

#[tokio::test]
async fn reset_before_the_header() {
    let failed = answered(async |mut conn| {
        conn.read_head().await?;
        conn.reset()
    })
    .await;
    assert_cut_off(&failed, "connection_reset", Progress::NOTHING);
    assert_eq!(ended(failed.outcome.conn()), ("failed", "connection_reset"));
}

#[tokio::test]
async fn closed_within_the_header() {
    let failed = answered(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-le").await?;
        conn.close().await
    })
    .await;
    assert_cut_off(&failed, "eof_error", Progress::NOTHING);
    assert_eq!(failed.outcome.conn().total_recv_bytes, 27);
}

#[tokio::test]
async fn not_http_at_all() {
    let failed = answered(async |mut conn| {
        conn.write(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n").await?;
        conn.read_to_end().await
    })
    .await;
    assert_eq!(ended(&failed.outcome.request), ("failed", "x_http_protocol_error"));
    assert_eq!(failed.outcome.conn().total_recv_bytes, 30);
}

#[tokio::test]
async fn not_the_http_that_it_should_be() {
    for (response, status) in [
        ("HTTP/1.1 200 OK\r\ncontent length: 5\r\n\r\nhello", 0),
        ("HTTP/1.1 20 OK\r\n\r\n", 0),
        ("HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\nhello", 0),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfive\r\nhello\r\n", 200),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello!\r\n", 200),
    ] {
        let failed = answered(async move |mut conn| {
            conn.read_head().await?;
            conn.write(response.as_bytes()).await?;
            conn.read_to_end().await
        })
        .await;
        let request = &failed.outcome.request;
        assert_eq!(ended(request), ("failed", "x_http_protocol_error"), "{response}");
        assert_eq!(request.resp_status_code, status, "{response}");
        failed.outcome.assert_on(failed.outcome.conn());
        assert_eq!(ended(failed.outcome.conn()), ("closed", ""), "our side had enough");
    }
}

#[tokio::test]
async fn a_header_without_end() {
    let failed = answered(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\n").await?;
        loop {
            conn.write(&b"x-more: and more\r\n".repeat(100)).await?;
        }
    })
    .await;
    assert_eq!(ended(&failed.outcome.request), ("failed", "x_http_protocol_error"));
    assert_eq!(failed.outcome.request.resp_status_code, 0);
}

#[tokio::test]
async fn a_body_that_cannot_be_decoded() {
    for (body, failure) in [("\x1f\u{8b}", "x_decoding_error"), ("plain", "x_decoding_error")] {
        let failed = answered(async move |mut conn| {
            conn.read_head().await?;
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            conn.write(head.as_bytes()).await?;
            conn.write(body.as_bytes()).await?;
            conn.read_to_end().await
        })
        .await;
        let request = &failed.outcome.request;
        assert_eq!(ended(request), ("failed", failure), "{}", failed.error);
        assert_eq!((request.resp_status_code, request.resp_content_len), (200, 0));
    }
}

#[tokio::test]
async fn closed_within_the_body_of_a_known_length() {
    let failed = answered(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf!").await?;
        conn.close().await
    })
    .await;
    assert_cut_off(&failed, "eof_error", Progress { status: 200, body: 5 });
    assert_eq!(ended(failed.outcome.conn()), ("peer-closed", ""));
}

#[tokio::test]
async fn closed_within_a_chunked_body() {
    for (sent, body) in [("5\r\nhalf!\r\n", 5), ("5\r\nhal", 3), ("5\r\nhalf!\r\n0\r\n", 5)] {
        let failed = answered(async move |mut conn| {
            conn.read_head().await?;
            conn.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            conn.write(sent.as_bytes()).await?;
            conn.close().await
        })
        .await;
        assert_cut_off(&failed, "eof_error", Progress { status: 200, body });
    }
}

#[tokio::test]
async fn reset_within_the_body() {
    let failed = answered(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").await?;
        conn.reset()
    })
    .await;
    // The reset may overtake the header.
    let status = failed.outcome.request.resp_status_code;
    assert_cut_off(&failed, "connection_reset", Progress { status, body: 0 });
    assert_eq!(ended(failed.outcome.conn()), ("failed", "connection_reset"));
}

/// An end without `close_notify` may be a truncation attack (RFC 8446 section 6.1); it is reported as any early end.
#[tokio::test]
async fn cut_off_within_the_body_over_tls() {
    for orderly in [true, false] {
        let fixture = Fixture::new().await;
        let config = fixture.authority.issue(&["web.test"]).server();
        let server = tls_server(config, async move |mut conn| {
            conn.read_head().await?;
            conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf!").await?;
            if orderly { conn.close().await } else { Ok(()) }
        });
        let failed = failed(&fixture.client(), fixture.https(&server)).await;
        assert_cut_off(&failed, "eof_error", Progress { status: 200, body: 5 });
        let outcome = &failed.outcome;
        assert_eq!(outcome.request.tls_tunnel, outcome.tunnel().trace_id);
        assert_eq!(ended(outcome.tunnel()), ("peer-closed", ""));
        // After a `close_notify` the client need not read up to the end of the stream.
        assert!(["peer-closed", if orderly { "closed" } else { "" }].contains(&ended(outcome.conn()).0));
    }
}

/// A request to a server that does that.
async fn answered(script: impl AsyncFn(Conn) -> std::io::Result<()> + Send + 'static) -> Failed {
    let (fixture, server) = (Fixture::new().await, Server::start(script));
    failed(&fixture.client(), fixture.http(&server)).await
}

/// How far the response had come.
struct Progress {
    status: u16,
    body: u64,
}

impl Progress {
    const NOTHING: Self = Self { status: 0, body: 0 };
}

/// The request failed like that on its own connection, with what had come before.
#[track_caller]
fn assert_cut_off(failed: &Failed, failure: &str, progress: Progress) {
    let (outcome, request) = (&failed.outcome, &failed.outcome.request);
    assert_eq!(ended(request), ("failed", failure));
    outcome.assert_on(outcome.conn());
    assert!(!request.conn_acquired_at.is_undefined() && !request.req_body_end_at.is_undefined());
    assert_eq!((request.resp_status_code, request.resp_content_len), (progress.status, progress.body));
    assert_eq!(request.resp_recv_at.is_undefined(), progress.status == 0);
    assert!(request.resp_body_end_at.is_undefined(), "it has not come");
    assert!(request.attempts.is_empty(), "it was not sent again");
    let Timings { send, wait, receive, .. } = request.timings(&outcome.trace);
    assert!(send.is_some() && wait.is_some() && receive.is_some() == (progress.status != 0));
}
