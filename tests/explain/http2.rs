//! Connections and streams of HTTP/2 that a server ends or slows down.

use crate::{client, quoted, root, trace_of};
use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use nettrace::{
    NetTrace, TraceSink, client::HttpVersion, connect::TraceConnectLayer, explain::Severity,
    record::TcpConnTrace, wire::TraceWireLayer,
};
use std::{io, time::Duration};
use test_support::{
    raw::{Conn, Server},
    wait,
};
use tower::Layer as _;

/// What a server takes before it refuses a request or allows more of it, so that this is a large part of the request's
/// time.
const SLOW: Duration = Duration::from_millis(50);

/// The frames with which a server begins: SETTINGS, empty.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A response with the status 200 and no body, on a stream.
fn answer(stream: u8) -> Vec<u8> {
    [&[0, 0, 1, 1, 5, 0, 0, 0, stream][..], &[0x88]].concat()
}

fn frame(kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, payload.len() as u8, kind, 0, 0, 0, 0, stream], payload].concat()
}

fn go_away(last_stream: u8, code: u8) -> Vec<u8> {
    frame(7, 0, &[0, 0, 0, last_stream, 0, 0, 0, code])
}

fn reset(stream: u8, code: u8) -> Vec<u8> {
    frame(3, stream, &[0, 0, 0, code])
}

/// Reads frames up to the next one of this type, and returns the length of that.
async fn read_to(conn: &mut Conn, kind: u8) -> io::Result<usize> {
    loop {
        let head = conn.read(9).await?;
        let length = usize::from(head[2]) + usize::from(head[1]) * 256;
        conn.read(length).await?;
        if head[3] == kind {
            return Ok(length);
        }
    }
}

/// Reads the preface, and frames up to the HEADERS of the first request.
async fn accept(conn: &mut Conn) -> io::Result<usize> {
    conn.read(24).await?;
    conn.write(SETTINGS).await?;
    read_to(conn, 1).await
}

/// Makes a request over a connection that is read to a server that answers it with these bytes.
async fn read_from_wire(answer: Vec<u8>) -> NetTrace {
    wire(TraceSink::new(), b"", async move |mut conn| {
        accept(&mut conn).await?;
        conn.write(&answer).await?;
        conn.close().await
    })
    .await
}

async fn wire(
    sink: TraceSink,
    body: &'static [u8],
    script: impl AsyncFn(Conn) -> io::Result<()> + Send + 'static,
) -> NetTrace {
    let server = Server::start(script);
    let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
    let connector = TraceWireLayer::new(&sink).layer(connector);
    let client: legacy::Client<_, Full<Bytes>> =
        legacy::Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
    let request = http::Request::post(format!("http://{}/", server.addr())).body(Full::from(body)).unwrap();
    drop(client.request(request).await);
    drop(client);
    let is_open = |conn: &TcpConnTrace| conn.end_reason.is_none();
    wait::until("all connections are closed", || !sink.snapshot("").tcp_conns.iter().any(is_open)).await;
    sink.snapshot("")
}

/// Makes a request with the client of the crate, whose connections are not read.
async fn with_client(script: impl AsyncFn(Conn) -> io::Result<()> + Send + 'static) -> NetTrace {
    let (sink, server) = (TraceSink::new(), Server::start(script));
    let client = client(&sink).http_version(HttpVersion::Http2Only).build().unwrap();
    trace_of(&sink, &client, &format!("http://{}/", server.addr())).await
}

#[tokio::test]
async fn a_connection_that_is_shut_down_before_the_request_was_processed() {
    let root = root(&read_from_wire(go_away(0, 0xb)).await, "http2_goaway");
    assert_eq!(quoted(&root, "wire.http2.goAways.error"), "ENHANCE_YOUR_CALM");
    assert_eq!((quoted(&root, "wire.http2.goAways.lastStreamID"), quoted(&root, "streamID")), ("0", "1"));
    assert_eq!(quoted(&root, "failure"), "x_http2_goaway");
}

#[tokio::test]
async fn a_connection_that_is_shut_down_and_closed_before_the_response() {
    let root = root(&read_from_wire(go_away(1, 0)).await, "http2_goaway");
    assert!(root.sentence.ends_with("it may have processed the request."), "{}", root.sentence);
}

#[tokio::test]
async fn a_request_that_is_sent_again_after_a_shutdown() {
    let trace = with_client(async |mut conn| {
        accept(&mut conn).await?;
        if conn.index == 0 {
            tokio::time::sleep(SLOW).await;
            conn.write(&go_away(0, 0)).await?;
        } else {
            conn.write(&answer(1)).await?;
        }
        conn.read_to_end().await
    })
    .await;
    let root = root(&trace, "http2_goaway");
    assert_eq!((root.severity, quoted(&root, "attempts.failure")), (Severity::Degraded, "x_http2_goaway"));
    assert_eq!(root.not_seen.len(), 1);
}

#[tokio::test]
async fn a_stream_that_is_reset() {
    let root = root(&read_from_wire(reset(1, 0xb)).await, "http2_stream_reset");
    assert_eq!(quoted(&root, "http2Error"), "ENHANCE_YOUR_CALM");
    assert_eq!(quoted(&root, "wire.http2.serverResets"), "1");
    assert!(root.sentence.ends_with("(ENHANCE_YOUR_CALM), before a response."), "{}", root.sentence);
}

#[tokio::test]
async fn a_stream_that_is_reset_within_the_response() {
    let trace = with_client(async |mut conn| {
        accept(&mut conn).await?;
        conn.write(&frame_with_end_of_headers()).await?;
        conn.write(&frame(0, 1, b"half!")).await?;
        conn.write(&reset(1, 2)).await?;
        conn.read_to_end().await
    })
    .await;
    let root = root(&trace, "http2_stream_reset");
    assert!(root.sentence.ends_with("(INTERNAL_ERROR), after 5 bytes of the response."), "{}", root.sentence);
}

fn frame_with_end_of_headers() -> Vec<u8> {
    vec![0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88]
}

#[tokio::test]
async fn a_stream_that_is_refused_and_sent_again() {
    let trace = with_client(async |mut conn| {
        accept(&mut conn).await?;
        tokio::time::sleep(SLOW).await;
        conn.write(&reset(1, 7)).await?;
        read_to(&mut conn, 1).await?;
        conn.write(&answer(3)).await?;
        conn.read_to_end().await
    })
    .await;
    let root = root(&trace, "http2_stream_reset");
    assert_eq!(root.severity, Severity::Degraded);
    assert!(root.sentence.contains("REFUSED_STREAM"), "{}", root.sentence);
}

/// The server allows as many bytes of the body as a connection begins with, and the rest later.
#[tokio::test]
async fn a_body_that_waits_for_a_window() {
    const WINDOW: usize = 65_535;
    let settings = frame(4, 0, &[0, 4, 0, 0, 0xff, 0xff]);
    let trace = wire(TraceSink::new(), &[b'x'; WINDOW + 1000], async move |mut conn| {
        conn.read(24).await?;
        conn.write(&settings).await?;
        let mut came = 0;
        while came < WINDOW {
            came += read_to(&mut conn, 0).await?;
        }
        tokio::time::sleep(SLOW).await;
        for stream in [0, 1] {
            conn.write(&frame(8, stream, &[0, 0, 0x10, 0])).await?;
        }
        while came < WINDOW + 1000 {
            came += read_to(&mut conn, 0).await?;
        }
        conn.write(&answer(1)).await?;
        conn.read_to_end().await
    })
    .await;
    let root = root(&trace, "http2_flow_control");
    assert!(quoted(&root, "windowWaitUs").parse::<u64>().unwrap() >= 30_000);
    assert_eq!(quoted(&root, "wire.http2.serverSettings.initialWindowSize"), "65535");
}
