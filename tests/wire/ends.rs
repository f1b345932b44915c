//! How requests end that do not complete.

use crate::fixture::{Conn, finished, only_request};
use nettrace::{
    Failure, TraceSink,
    record::{EndReason, HttpReqTrace},
};
use test_support::raw::{self, Server};

fn end(request: &HttpReqTrace) -> (Option<EndReason>, Option<Failure>) {
    (request.end_reason.clone(), request.failure.clone())
}

/// Sends a request to a server with this script, reads to the end, and returns the request's record.
async fn after(script: impl AsyncFn(raw::Conn) -> std::io::Result<()> + Send + 'static) -> HttpReqTrace {
    let (sink, server) = (TraceSink::new(), Server::start(script));
    let mut conn = Conn::connect(&sink, server.addr()).await;
    conn.write(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let _ = conn.read_to_end().await;
    drop(conn);
    only_request(&finished(&sink).await).clone()
}

#[tokio::test]
async fn a_server_that_closes_the_connection_ends_the_request() {
    let request = after(async |mut conn| {
        conn.read_head().await?;
        conn.close().await
    })
    .await;
    assert_eq!(end(&request), (Some(EndReason::Failed), Some(Failure::EofError)));
    assert_eq!(request.req_error.as_str(), "the server closed the connection before it had answered");
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_a_failure() {
    let request = after(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await?;
        conn.close().await
    })
    .await;
    assert_eq!(end(&request), (Some(EndReason::Failed), Some(Failure::EofError)));
    assert_eq!(request.req_error.as_str(), "the response's body ended after 4 of 10 bytes");
    assert_eq!((request.resp_status_code, request.resp_content_len), (200, 4));
}

#[tokio::test]
async fn a_reset_ends_the_request() {
    let request = after(async |mut conn| {
        conn.read_head().await?;
        conn.reset()
    })
    .await;
    assert_eq!(end(&request), (Some(EndReason::Failed), Some(Failure::ConnectionReset)));
}

#[tokio::test]
async fn a_connection_that_this_side_closes_cancels_the_request() {
    let (sink, server) = (TraceSink::new(), Server::start(async |conn| conn.hang().await));
    let mut conn = Conn::connect(&sink, server.addr()).await;
    conn.write(b"GET / HTTP/1.1\r\nhost: h\r\n\r\nGET /second HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(sink.snapshot("").http_requests.iter().all(|request| request.end_reason.is_none()));
    drop(conn);
    let trace = finished(&sink).await;
    let ends: Vec<_> = trace.http_requests.iter().map(end).collect();
    assert_eq!(ends, vec![(Some(EndReason::Cancelled), Some(Failure::Interrupted)); 2]);
}

#[tokio::test]
async fn a_response_before_the_end_of_the_request_completes_it() {
    const TOO_LARGE: &[u8] = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n";
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let (sink, server) = (
        TraceSink::new(),
        Server::start(async |mut conn| {
            conn.read_head().await?;
            conn.write(TOO_LARGE).await?;
            conn.read(6).await?;
            conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
            conn.read_to_end().await
        }),
    );
    let mut conn = Conn::connect(&sink, server.addr()).await;
    conn.write(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 6\r\n\r\n").await;
    conn.read_in_pieces(TOO_LARGE.len(), 64).await;
    conn.write(b"uploadGET /next HTTP/1.1\r\nhost: h\r\n\r\n").await;
    conn.read_in_pieces(OK.len(), 64).await;
    drop(conn);
    let trace = finished(&sink).await;
    let read: Vec<_> = trace
        .http_requests
        .iter()
        .map(|request| (request.resp_status_code, request.req_content_len, end(request)))
        .collect();
    let complete = || (Some(EndReason::Closed), None);
    assert_eq!(read, [(413, 0, complete()), (200, 0, complete())]);
}
