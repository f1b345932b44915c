//! Streams of HTTP/2.

use crate::fixture::{Conn, connector, finished, only_request, pool};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use nettrace::{
    Failure, TraceSink,
    record::{EndReason, HttpReqTrace},
};
use std::collections::BTreeSet;
use test_support::{
    raw::{self, Server},
    web::{ReceivedRequest, Web, reply},
};
use tower::ServiceExt as _;

fn stream(request: &HttpReqTrace) -> u32 {
    request.stream_id.expect("the stream").get()
}

#[tokio::test]
async fn concurrent_requests_have_a_stream_each() {
    let sink = TraceSink::new();
    let web = Web::start(async |request: ReceivedRequest| reply(vec![b'x'; request.path().len() * 10_000]));
    let client = pool(connector(&sink), true);
    client.get(web.url("/").parse().unwrap()).await.unwrap().into_body().collect().await.unwrap();
    let paths: Vec<_> = (0..32).map(|i| format!("/{}", "a".repeat(i))).collect();
    join_all(paths.iter().map(async |path| {
        let response = client.get(web.url(path).parse().unwrap()).await.unwrap();
        response.into_body().collect().await.unwrap()
    }))
    .await;
    drop(client);
    let trace = finished(&sink).await;
    assert_eq!((trace.tcp_conns.len(), trace.http_requests.len()), (1, 33));
    assert_eq!(trace.tcp_conns[0].wire.as_deref().unwrap().protocol.as_str(), "h2");
    let streams: BTreeSet<_> = trace.http_requests.iter().map(stream).collect();
    assert_eq!(streams, (1..=65).step_by(2).collect());
    for request in trace.http_requests.iter() {
        let path = request.req_url.rsplit('/').next().unwrap();
        assert_eq!(request.resp_content_len as usize, (path.len() + 1) * 10_000, "{}", request.req_url);
        assert_eq!((request.proto_major, request.end_reason.clone()), (2, Some(EndReason::Closed)));
        assert!(
            request.first_byte_at >= request.req_sent_at && request.resp_recv_at >= request.first_byte_at
        );
    }
}

#[tokio::test]
async fn the_status_of_a_grpc_call_is_in_the_trailers() {
    let sink = TraceSink::new();
    let web = Web::start(async |_| {
        let trailers =
            HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("5"))]);
        let frames = [Ok(Frame::data(Bytes::from_static(b"reply"))), Ok(Frame::trailers(trailers))];
        let mut response = Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync());
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        response
    });
    let client = pool(connector(&sink), true);
    client.get(web.url("/a.B/C").parse().unwrap()).await.unwrap().into_body().collect().await.unwrap();
    let trace = sink.snapshot("");
    let request = only_request(&trace);
    assert_eq!((request.grpc_status, request.resp_content_len), (Some(5), 5));
}

/// The frames with which a server begins: SETTINGS, empty.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

fn frame(kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, payload.len() as u8, kind, 0, 0, 0, 0, stream], payload].concat()
}

/// Reads the preface of HTTP/2, and frames up to the first HEADERS.
async fn read_headers(conn: &mut raw::Conn) -> std::io::Result<()> {
    conn.read(24).await?;
    loop {
        let head = conn.read(9).await?;
        conn.read(usize::from(head[2]) + usize::from(head[1]) * 256).await?;
        if head[3] == 1 {
            return Ok(());
        }
    }
}

/// Makes a request to a server that answers it with these bytes and closes the connection.
async fn answered_with(answer: Vec<u8>) -> HttpReqTrace {
    let sink = TraceSink::new();
    let server = Server::start(async move |mut conn| {
        read_headers(&mut conn).await?;
        conn.write(SETTINGS).await?;
        conn.write(&answer).await?;
        conn.close().await
    });
    let client = pool(connector(&sink), true);
    let _ = client.get(format!("http://{}/", server.addr()).parse().unwrap()).await;
    drop(client);
    only_request(&finished(&sink).await).clone()
}

fn end(request: &HttpReqTrace) -> (Option<EndReason>, Option<Failure>, &str) {
    (request.end_reason.clone(), request.failure.clone(), request.http2_error.as_str())
}

#[tokio::test]
async fn a_reset_stream_has_its_error_code() {
    let request = answered_with(frame(3, 1, &[0, 0, 0, 0xb])).await;
    assert_eq!(
        end(&request),
        (Some(EndReason::Failed), Some(Failure::Http2StreamReset), "ENHANCE_YOUR_CALM")
    );
    assert_eq!(request.req_error.as_str(), "the server reset the stream (ENHANCE_YOUR_CALM)");
}

#[tokio::test]
async fn a_connection_that_is_shut_down_refuses_later_streams() {
    let request = answered_with(frame(7, 0, &[0, 0, 0, 0, 0, 0, 0, 2])).await;
    assert_eq!(end(&request), (Some(EndReason::Failed), Some(Failure::Http2Goaway), "INTERNAL_ERROR"));
    // A request that the server may have processed is not refused, but its response does not come.
    let request = answered_with(frame(7, 0, &[0, 0, 0, 1, 0, 0, 0, 0])).await;
    assert_eq!(end(&request), (Some(EndReason::Failed), Some(Failure::EofError), ""));
}

/// Whether the server sends, and frames.
type Turn = (bool, &'static [&'static [u8]]);

/// A connection on which a test plays both sides.
async fn conversation(sink: &TraceSink, turns: &'static [Turn]) {
    let preface = &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..];
    let length = |frames: &[&[u8]]| frames.iter().map(|frame| frame.len()).sum::<usize>();
    let server = Server::start(async move |mut conn| {
        conn.read(24).await?;
        for (by_server, frames) in turns {
            if *by_server {
                conn.write(&frames.concat()).await?;
            } else {
                conn.read(length(frames)).await?;
            }
        }
        conn.close().await
    });
    let mut conn = Conn::connect(sink, server.addr()).await;
    conn.write(preface).await;
    for (by_server, frames) in turns {
        if *by_server {
            conn.read_in_pieces(length(frames), 1000).await;
        } else {
            conn.write(&frames.concat()).await;
        }
    }
    conn.read_to_end().await.unwrap();
}

#[tokio::test]
async fn a_connection_has_what_both_sides_said_about_it() {
    let sink = TraceSink::new();
    conversation(
        &sink,
        &[
            (false, &[&[0, 0, 12, 4, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 4, 0, 0x20, 0, 0]]),
            (true, &[&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100], &[0, 0, 0, 4, 1, 0, 0, 0, 0]]),
            (false, &[&[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]]),
            (true, &[&[0, 0, 8, 6, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]]), // a PING of the server
            (true, &[&[0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]]),
            (
                false,
                &[&[0, 0, 3, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84], &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8]],
            ),
            (true, &[&[0, 0, 11, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0xb, b'f', b'u', b'l']]),
        ],
    )
    .await;
    let trace = finished(&sink).await;
    let http2 = trace.tcp_conns[0].wire.as_deref().unwrap().http2.as_deref().unwrap();
    assert_eq!(http2.client_settings.initial_window_size, Some(0x20_0000));
    assert_eq!(http2.server_settings.max_concurrent_streams, Some(100));
    assert_eq!(http2.server_settings.initial_window_size, None);
    assert_eq!((http2.client_resets, http2.server_resets, http2.pings), (1, 0, 1));
    assert!(http2.min_ping_us.is_some() && http2.min_ping_us == http2.max_ping_us);
    let [go_away] = &http2.go_aways[..] else { panic!("one GOAWAY") };
    assert_eq!((go_away.by_server, go_away.last_stream_id), (true, 1));
    assert_eq!((go_away.error.as_str(), go_away.debug_data.as_str()), ("ENHANCE_YOUR_CALM", "ful"));
}

#[tokio::test]
async fn a_body_that_waits_for_a_window_has_the_time() {
    const HEADERS: &[u8] = &[0, 0, 3, 1, 4, 0, 0, 0, 1, 0x83, 0x86, 0x84];
    const ANSWER: &[u8] = &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];
    const FIVE: &[u8] = &[0, 0, 5, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5];
    const LAST_FIVE: &[u8] = &[0, 0, 5, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5];
    /// SETTINGS with an initial window of five bytes.
    const SMALL_WINDOW: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 5];
    const FIVE_MORE: &[u8] = &[0, 0, 4, 8, 0, 0, 0, 0, 1, 0, 0, 0, 5];
    const WAITS: &[Turn] = &[
        (false, &[SETTINGS]),
        (true, &[SMALL_WINDOW]),
        (false, &[HEADERS, FIVE]),
        (true, &[FIVE_MORE]),
        (false, &[LAST_FIVE]),
        (true, &[ANSWER]),
    ];
    /// The window is not needed any more when it is opened.
    const ENDS: &[Turn] = &[
        (false, &[SETTINGS]),
        (true, &[SMALL_WINDOW]),
        (false, &[HEADERS, LAST_FIVE]),
        (true, &[FIVE_MORE, ANSWER]),
    ];
    const LARGE: &[Turn] =
        &[(false, &[SETTINGS]), (true, &[SETTINGS]), (false, &[HEADERS, FIVE, LAST_FIVE]), (true, &[ANSWER])];
    for (turns, waits) in [(WAITS, true), (ENDS, false), (LARGE, false)] {
        let sink = TraceSink::new();
        conversation(&sink, turns).await;
        let trace = finished(&sink).await;
        let request = only_request(&trace);
        assert_eq!(request.resp_status_code, 200);
        assert_eq!(request.window_wait_us.is_some(), waits);
    }
}

/// Returns a DATA frame of the first stream with that many bytes.
const fn data<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut frame = [0; LENGTH];
    let payload = LENGTH - 9;
    frame[1] = (payload >> 8) as u8;
    frame[2] = payload as u8;
    frame[8] = 1;
    frame
}

#[tokio::test]
async fn a_body_that_waits_for_what_others_have_used_up_has_the_time() {
    const fn headers(stream: u8) -> [u8; 12] {
        [0, 0, 3, 1, 4, 0, 0, 0, stream, 0x83, 0x86, 0x84]
    }
    const fn last_data(stream: u8) -> [u8; 10] {
        [0, 0, 1, 0, 1, 0, 0, 0, stream, 7]
    }
    const fn answer(stream: u8) -> [u8; 10] {
        [0, 0, 1, 1, 5, 0, 0, 0, stream, 0x88]
    }
    /// The windows of streams are larger than that of the connection, which has 65,535 bytes.
    const LARGE_WINDOWS: &[u8] = &[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0xff, 0xff];
    static FULL: [u8; 16_393] = data();
    static ALMOST_FULL: [u8; 16_392] = data();
    const MORE: &[u8] = &[0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    const TURNS: &[Turn] = &[
        (false, &[SETTINGS]),
        (true, &[LARGE_WINDOWS]),
        (false, &[&headers(1), &headers(3), &headers(5), &FULL, &FULL, &FULL, &ALMOST_FULL, &headers(7)]),
        (true, &[MORE]),
        (false, &[&last_data(3), &last_data(7), &[0, 0, 0, 0, 1, 0, 0, 0, 5]]),
        (true, &[&answer(3), &answer(5), &answer(7), &answer(1)]),
    ];
    let sink = TraceSink::new();
    conversation(&sink, TURNS).await;
    let trace = finished(&sink).await;
    let waits = trace.http_requests.iter().map(|request| request.window_wait_us.is_some());
    // The second and the fourth, which began later, had to wait before they went on. Nothing says that the third, which
    // only ended, had anything to send.
    assert_eq!(waits.collect::<Vec<_>>(), [true, true, false, true]);
}

#[tokio::test]
async fn a_request_that_the_client_drops_is_cancelled() {
    let sink = TraceSink::new();
    let server = Server::start(async |mut conn| {
        conn.write(SETTINGS).await?;
        conn.read_to_end().await
    });
    let uri: http::Uri = format!("http://{}/", server.addr()).parse().unwrap();
    let io = connector(&sink).oneshot(uri.clone()).await.unwrap();
    let (mut sender, conn) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    let conn = tokio::spawn(conn);
    let request = http::Request::get(uri).body(http_body_util::Empty::<Bytes>::new()).unwrap();
    let pending = tokio::spawn(sender.send_request(request));
    test_support::wait::until("the request is sent", || !sink.snapshot("").http_requests.is_empty()).await;
    pending.abort();
    let is_over = || sink.snapshot("").http_requests[0].end_reason.is_some();
    test_support::wait::until("the stream is reset", is_over).await;
    let trace = sink.snapshot("");
    assert_eq!(end(only_request(&trace)).0, Some(EndReason::Cancelled));
    conn.abort();
}
