//! Responses that are incomplete, malformed or missing.

use nettrace::record::Timings;

use crate::fixture::{Failed, Fixture, ended, failed, tls_server};
use test_support::raw::{Conn, Server};

#[tokio::test]
async fn a_close_before_the_header_is_an_eof_error() {
    let failed = failed_by(async |mut conn| {
        conn.read_head().await?;
        conn.close().await
    })
    .await;
    assert_cut_off(&failed, "eof_error", Progress::NOTHING);
    assert_eq!(ended(failed.outcome.conn()), ("peer-closed", ""));
}

#[tokio::test]
async fn a_reset_before_the_header_fails_the_request() {
    let failed = failed_by(async |mut conn| {
        conn.read_head().await?;
        conn.reset()
    })
    .await;
    assert_cut_off(&failed, "connection_reset", Progress::NOTHING);
    assert_eq!(ended(failed.outcome.conn()), ("failed", "connection_reset"));
}

#[tokio::test]
async fn a_close_within_the_header_is_an_eof_error() {
    let failed = failed_by(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-le").await?;
        conn.close().await
    })
    .await;
    assert_cut_off(&failed, "eof_error", Progress::NOTHING);
    assert_eq!(failed.outcome.conn().total_recv_bytes, 27);
}

#[tokio::test]
async fn a_reply_that_is_not_http_is_a_protocol_error() {
    let failed = failed_by(async |mut conn| {
        conn.write(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n").await?;
        conn.read_to_end().await
    })
    .await;
    assert_eq!(ended(&failed.outcome.request), ("failed", "x_http_protocol_error"));
    assert_eq!(failed.outcome.conn().total_recv_bytes, 30);
}

#[tokio::test]
async fn a_malformed_response_is_a_protocol_error() {
    for (response, status) in [
        ("HTTP/1.1 200 OK\r\ncontent length: 5\r\n\r\nhello", 0),
        ("HTTP/1.1 20 OK\r\n\r\n", 0),
        ("HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\nhello", 0),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfive\r\nhello\r\n", 200),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello!\r\n", 200),
    ] {
        let failed = failed_by(async move |mut conn| {
            conn.read_head().await?;
            conn.write(response.as_bytes()).await?;
            conn.read_to_end().await
        })
        .await;
        let request = &failed.outcome.request;
        assert_eq!(ended(request), ("failed", "x_http_protocol_error"), "{response}");
        assert_eq!(request.resp_status_code, status, "{response}");
        failed.outcome.assert_on(failed.outcome.conn());
        assert_eq!(ended(failed.outcome.conn()), ("closed", ""), "the client closed it");
    }
}

#[tokio::test]
async fn an_endless_header_is_a_protocol_error() {
    let failed = failed_by(async |mut conn| {
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
async fn an_invalid_gzip_body_is_a_decoding_error() {
    for (body, failure) in [("\x1f\u{8b}", "x_decoding_error"), ("plain", "x_decoding_error")] {
        let failed = failed_by(async move |mut conn| {
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
async fn a_close_within_a_body_of_known_length_is_an_eof_error() {
    let failed = failed_by(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf!").await?;
        conn.close().await
    })
    .await;
    assert_cut_off(&failed, "eof_error", Progress { status: 200, body: 5 });
    assert_eq!(ended(failed.outcome.conn()), ("peer-closed", ""));
}

#[tokio::test]
async fn a_close_within_a_chunked_body_is_an_eof_error() {
    for (sent, body) in [("5\r\nhalf!\r\n", 5), ("5\r\nhal", 3), ("5\r\nhalf!\r\n0\r\n", 5)] {
        let failed = failed_by(async move |mut conn| {
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
async fn a_reset_within_the_body_fails_the_request() {
    let failed = failed_by(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").await?;
        conn.reset()
    })
    .await;
    // The client may notice the reset before it has read the header.
    let status = failed.outcome.request.resp_status_code;
    assert_cut_off(&failed, "connection_reset", Progress { status, body: 0 });
    assert_eq!(ended(failed.outcome.conn()), ("failed", "connection_reset"));
}

/// An end without `close_notify` may be a truncation attack (RFC 8446 section 6.1); it is reported like any early end.
#[tokio::test]
async fn a_close_within_the_body_over_tls_is_an_eof_error() {
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
        // After `close_notify` the client may close the connection before it has read the server's FIN.
        assert!(["peer-closed", if orderly { "closed" } else { "" }].contains(&ended(outcome.conn()).0));
    }
}

/// Makes a request, which must fail, to a server that runs the script.
async fn failed_by(script: impl AsyncFn(Conn) -> std::io::Result<()> + Send + 'static) -> Failed {
    let (fixture, server) = (Fixture::new().await, Server::start(script));
    failed(&fixture.client(), fixture.http(&server)).await
}

/// How much of the response had arrived.
struct Progress {
    status: u16,
    body: u64,
}

impl Progress {
    const NOTHING: Self = Self { status: 0, body: 0 };
}

/// Asserts that the request failed with this code on its own connection, and how much of the response is recorded.
#[track_caller]
fn assert_cut_off(failed: &Failed, failure: &str, progress: Progress) {
    let (outcome, request) = (&failed.outcome, &failed.outcome.request);
    assert_eq!(ended(request), ("failed", failure));
    outcome.assert_on(outcome.conn());
    assert!(!request.conn_acquired_at.is_undefined() && !request.req_body_end_at.is_undefined());
    assert_eq!((request.resp_status_code, request.resp_content_len), (progress.status, progress.body));
    assert_eq!(request.resp_recv_at.is_undefined(), progress.status == 0);
    assert!(request.resp_body_end_at.is_undefined(), "the body did not end");
    assert!(request.attempts.is_empty(), "the request was not sent again");
    let Timings { send, wait, receive, .. } = request.timings(&outcome.trace);
    assert!(send.is_some() && wait.is_some() && receive.is_some() == (progress.status != 0));
}
