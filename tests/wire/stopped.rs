//! What cannot be read is given up with a reason, and the connection goes on.

use crate::fixture::{Conn, finished};
use nettrace::{
    TraceSink,
    record::{EndReason, NetTrace, WireStop},
};
use test_support::raw::Server;

/// Sends `request`, gets `response`, and returns the trace.
async fn trace_of(request: Vec<u8>, response: Vec<u8>) -> NetTrace {
    let (sink, expected, length) = (TraceSink::new(), response.clone(), request.len());
    let server = Server::start(async move |mut conn| {
        conn.read(length).await?;
        conn.write(&response).await?;
        conn.close().await
    });
    let mut conn = Conn::connect(&sink, server.addr()).await;
    conn.write(&request).await;
    assert_eq!(conn.read_to_end().await.unwrap(), expected);
    drop(conn);
    let [seen] = &server.ended(1).await[..] else { panic!("one connection") };
    assert_eq!(seen.received, request);
    finished(&sink).await
}

#[track_caller]
fn assert_stopped(trace: &NetTrace, reason: WireStop, requests: usize) {
    let [conn] = &trace.tcp_conns[..] else { panic!("one connection") };
    let wire = conn.wire.as_deref().expect("it was read");
    assert_eq!(wire.stop_reason, Some(reason));
    assert!(!wire.stopped_at.is_undefined() && wire.stopped_at <= conn.conn_close_at);
    assert_eq!(trace.http_requests.len(), requests);
    // How a request ends that is not read any more is unknown.
    for request in trace.http_requests.iter() {
        assert_eq!((request.end_reason.clone(), &request.failure), (Some(EndReason::Unobserved), &None));
        assert!(request.end_at.is_undefined());
    }
}

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";

#[tokio::test]
async fn a_connection_that_is_not_http_is_left_alone() {
    for (request, reason) in [
        (&b"\x16\x03\x01\x00\x05hello"[..], WireStop::Tls),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f\r\n\r\n", WireStop::NotHttp),
        (b"*1\r\n$4\r\nPING\r\n\r\n", WireStop::NotHttp),
    ] {
        let trace = trace_of(request.into(), b"+PONG\r\n".into()).await;
        assert_stopped(&trace, reason, 0);
    }
}

#[tokio::test]
async fn malformed_messages_stop_the_reader() {
    let cases: [(String, String, WireStop, usize); 7] = [
        (
            format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(70_000)),
            "x".into(),
            WireStop::SectionTooLarge,
            0,
        ),
        ("POST / HTTP/1.1\r\ncontent-length: 1, 2\r\n\r\n1".into(), "x".into(), WireStop::BodyFraming, 0),
        (GET.into(), "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n".into(), WireStop::BodyFraming, 1),
        (
            GET.into(),
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n".into(),
            WireStop::BodyFraming,
            1,
        ),
        (GET.into(), "220 mail.test ESMTP\r\n\r\n".into(), WireStop::NotHttp, 1),
        (
            GET.into(),
            "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 408 Request Timeout\r\n\r\n".into(),
            WireStop::UnexpectedResponse,
            0,
        ),
        (GET.repeat(1025), "x".into(), WireStop::TooManyRequests, 1024),
    ];
    for (request, response, reason, requests) in cases {
        let mut trace = trace_of(request.into(), response.into()).await;
        // Those that were complete before are recorded as usual.
        trace.http_requests = trace
            .http_requests
            .iter()
            .filter(|request| request.end_reason != Some(EndReason::Closed))
            .cloned()
            .collect();
        assert_stopped(&trace, reason, requests);
    }
}

#[tokio::test]
async fn an_upgrade_ends_the_reading() {
    let request = "GET / HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\n";
    let response = "HTTP/1.1 101 Switching Protocols\r\nupgrade: chat\r\n\r\nHTTP/1.1 500 is chat\r\n\r\n";
    let trace = trace_of(request.into(), response.into()).await;
    let [request] = &trace.http_requests[..] else { panic!("one request") };
    assert_eq!((request.resp_status_code, request.end_reason.clone()), (101, Some(EndReason::Closed)));
    let wire = trace.tcp_conns[0].wire.as_deref().unwrap();
    assert_eq!(wire.stop_reason, Some(WireStop::Upgraded));
}

#[tokio::test]
async fn malformed_frames_stop_the_reader() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let headers =
        |flags: u8, block: &[u8]| [&[0, 0, block.len() as u8, 1, flags, 0, 0, 0, 1], block].concat();
    for (frames, reason, requests) in [
        (headers(5, &[0x82, 0x86, 0x84]), None, 1),
        (headers(5, &[0x82, 0x86, 0xff]), Some(WireStop::HeaderCompression), 0),
        (headers(5, &[]), None, 0), // no method, for which the server resets the stream
        (headers(1, &[0x82]).repeat(2), Some(WireStop::Http2Frame), 0), // HEADERS in an unfinished block
        ([&[1, 0, 1, 1, 5, 0, 0, 0, 1][..], &[0; 0x10001]].concat(), Some(WireStop::SectionTooLarge), 0),
    ] {
        let trace = trace_of([&preface[..], &frames].concat(), b"\0\0\0\x04\0\0\0\0\0".into()).await;
        let wire = trace.tcp_conns[0].wire.as_deref().unwrap();
        assert_eq!((&wire.stop_reason, trace.http_requests.len()), (&reason, requests));
        assert_eq!(wire.protocol.as_str(), "h2");
    }
}
