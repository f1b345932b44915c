//! Requests that fail or are slow, and how their end shows.

use crate::{client, explained, only_verdict, quoted, root, slow_tls, trace_of};
use bytes::Bytes;
use futures_util::{future::join_all, stream};
use http::{HeaderValue, Request};
use http_body::Frame;
use http_body_util::StreamBody;
use nettrace::{
    Client, HeaderCapture, NetTrace, TraceSink,
    client::{Body, HttpVersion},
    explain::{Outcome, Severity},
    linux::TcpInfoProbe,
    tls::Roots,
};
use std::{io, sync::Arc, time::Duration};
use test_support::{
    lab::{Delay, Routed},
    pki::Authority,
    raw::{Conn, Server},
    require::require_lab,
    web::{ReceivedRequest, Web, redirect, reply, status},
};
use tokio::sync::Notify;

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// Requests a URL of a server that runs this script.
async fn scripted(
    sink: &TraceSink,
    script: impl AsyncFn(Conn) -> io::Result<()> + Send + 'static,
) -> NetTrace {
    limited(sink, Duration::from_millis(150), script).await
}

async fn limited(
    sink: &TraceSink,
    limit: impl Into<Option<Duration>>,
    script: impl AsyncFn(Conn) -> io::Result<()> + Send + 'static,
) -> NetTrace {
    let server = Server::start(script);
    let client = client(sink).timeout(limit).build().unwrap();
    trace_of(sink, &client, &format!("http://{}/", server.addr())).await
}

fn with_headers() -> TraceSink {
    TraceSink::builder().headers(HeaderCapture::Values).build()
}

fn with_tcp_info() -> TraceSink {
    TraceSink::builder().probe(TcpInfoProbe::new()).build()
}

/// Returns a body of these pieces that does not end.
fn endless(pieces: impl Iterator<Item = Bytes> + Send + 'static) -> Body {
    let pieces = stream::iter(pieces.map(|piece| Ok::<_, io::Error>(Frame::data(piece))));
    Body::new(StreamBody::new(futures_util::StreamExt::chain(pieces, stream::pending())))
}

#[tokio::test]
async fn a_time_limit_that_runs_out_while_the_server_is_silent() {
    let sink = TraceSink::new();
    let trace = scripted(&sink, async |mut conn| conn.read_to_end().await).await;
    let root = root(&trace, "http_timed_out");
    assert!(root.sentence.ends_with("while the request waited for the response."), "{}", root.sentence);
    assert_eq!((quoted(&root, "endReason"), root.not_seen.len()), ("timeout", 1));
}

/// A server that takes 60 ms for each request, and 400 ms for one.
fn slow_web() -> Web {
    Web::start(async |request: ReceivedRequest| {
        let time = if request.path() == "/slower" { 400 } else { 60 };
        tokio::time::sleep(Duration::from_millis(time)).await;
        reply("hello")
    })
}

/// Makes requests at the same time, and returns the trace once everything has ended.
async fn all(sink: &TraceSink, client: &Client, count: usize, url: &str) -> NetTrace {
    join_all((0..count).map(async |_| client.get(url).await.unwrap().into_body().bytes().await.unwrap()))
        .await;
    client.close().await;
    sink.snapshot("")
}

#[tokio::test]
async fn a_time_limit_that_is_shorter_than_what_the_host_usually_takes() {
    let (sink, web) = (TraceSink::new(), slow_web());
    let patient = client(&sink).build().unwrap();
    assert!(explained(&all(&sink, &patient, 5, &web.url("/")).await).is_empty());
    let hasty = client(&sink).timeout(Duration::from_millis(20)).build().unwrap();
    let trace = trace_of(&sink, &hasty, &web.url("/")).await;
    let root = root(&trace, "timeout_below_normal");
    assert_eq!((root.about.as_str(), quoted(&root, "endReason")), ("127.0.0.1", "timeout"));
    assert!(quoted(&root, "respRecvAt").ends_with("the median of 5"));
}

#[tokio::test]
async fn a_response_that_takes_longer_than_the_others_of_its_host() {
    let (sink, web) = (TraceSink::new(), slow_web());
    let client = client(&sink).build().unwrap();
    let (trace, _) = tokio::join!(
        async { trace_of(&sink, &client, &web.url("/slower")).await },
        join_all((0..4).map(async |_| client.get(web.url("/")).await.unwrap().into_body().bytes().await)),
    );
    let root = root(&trace, "http_server_slow");
    assert_eq!((root.about.as_str(), root.severity), ("127.0.0.1", Severity::Degraded));
    assert!(quoted(&root, "respRecvAt").ends_with("the median of 4"));
}

#[tokio::test]
async fn a_server_that_acknowledges_the_request_and_does_not_answer() {
    let sink = with_tcp_info();
    let trace = scripted(&sink, async |mut conn| conn.read_to_end().await).await;
    let root = root(&trace, "http_server_slow");
    let sent = trace.tcp_conns[0].total_sent_bytes; // the SYN and the FIN are acknowledged too
    assert!(quoted(&root, "tcpInfo.bytesAcked").parse::<u64>().unwrap() > sent, "{root}");
    assert_eq!(root.severity, Severity::Failure);
    assert!(root.sentence.contains("acknowledged the whole request"), "{}", root.sentence);
}

#[tokio::test]
async fn a_request_that_the_program_gives_up() {
    let sink = TraceSink::new();
    let server = Server::start(async |mut conn| conn.read_to_end().await);
    let client = client(&sink).build().unwrap();
    let request = client.get(format!("http://{}/", server.addr()));
    assert!(tokio::time::timeout(Duration::from_millis(50), request).await.is_err());
    client.close().await;
    let trace = sink.snapshot("");
    assert_eq!(only_verdict(&trace).outcome, Outcome::GivenUp);
    let root = root(&trace, "caller_gave_up");
    assert!(root.sentence.ends_with("while it waited for the response."), "{}", root.sentence);
    assert_eq!(quoted(&root, "endReason"), "cancelled");
}

/// Requests a URL twice from a server that closes the connection after the first response, which is noticed before the
/// second request or not.
async fn closed_in_between(is_noticed: bool) -> NetTrace {
    let (sink, authority, close) =
        (TraceSink::new(), Authority::new("nettrace test CA"), Arc::new(Notify::new()));
    let notified = close.clone();
    let server = slow_tls(authority.issue(&["127.0.0.1"]).server(), async move |mut conn| {
        conn.read_head().await?;
        conn.write(HELLO).await?;
        notified.notified().await;
        conn.close().await
    });
    let roots = Roots::from_pem(authority.pem()).unwrap();
    let (client, url) = (client(&sink).roots(roots).build().unwrap(), format!("https://{}/", server.addr()));
    client.get(&url).await.unwrap().into_body().bytes().await.unwrap();
    close.notify_one();
    if is_noticed {
        let is_closed = || sink.snapshot("").tcp_conns[0].end_reason.is_some();
        test_support::wait::until("the close is noticed", is_closed).await;
    } else {
        server.ended_unseen(1).await;
    }
    trace_of(&sink, &client, &url).await
}

#[tokio::test]
async fn an_idle_connection_that_is_closed_when_the_next_request_comes() {
    let trace = closed_in_between(false).await;
    let root = root(&trace, "http_stale_keep_alive");
    assert_eq!((root.severity, quoted(&root, "attempts.failure")), (Severity::Degraded, "eof_error"));
    assert_eq!(root.evidence[0].record, trace.http_requests[0].trace_id);
}

#[tokio::test]
async fn an_idle_connection_whose_close_was_noticed_is_healthy() {
    let explanation = explained(&closed_in_between(true).await);
    assert!(explanation.is_empty(), "{explanation}");
}

/// The server has processed a part of the request, so that it is not sent again, and nothing proves that the connection
/// had been idle for too long.
#[tokio::test]
async fn a_used_connection_that_is_closed_or_reset_after_the_request_was_read() {
    for (is_reset, is_acknowledged) in [(false, false), (false, true), (true, false), (true, true)] {
        let sink = if is_acknowledged { with_tcp_info() } else { TraceSink::new() };
        let server = Server::start(async move |mut conn| {
            conn.read_head().await?;
            conn.write(HELLO).await?;
            conn.read_head().await?;
            if is_reset { conn.reset() } else { conn.close().await }
        });
        let (client, url) = (client(&sink).build().unwrap(), format!("http://{}/", server.addr()));
        client.get(&url).await.unwrap().into_body().bytes().await.unwrap();
        let trace = trace_of(&sink, &client, &url).await;
        let root = root(&trace, if is_reset { "tcp_reset" } else { "http_closed_without_response" });
        assert_eq!((root.severity, root.about.as_str()), (Severity::Failure, &*server.addr().to_string()));
        let is_unseen = root.not_seen.iter().any(|unseen| unseen.contains("TcpInfoProbe was off"));
        assert_eq!(is_unseen, !is_reset && !is_acknowledged, "{root}");
    }
}

/// The server closes the connection while the request is on its way, and does not acknowledge it.
#[test]
fn an_idle_connection_that_is_closed_as_a_request_comes() {
    require_lab!();
    let net = Routed::with_delay(Delay::All(Duration::from_millis(250)));
    let close = Arc::new(Notify::new());
    let notified = close.clone();
    let server = Server::on(net.server.listen("10.9.2.2:80"), async move |mut conn| {
        conn.read_head().await?;
        conn.write(HELLO).await?;
        notified.notified().await;
        conn.close().await
    });
    net.client.block_on(async {
        let (sink, url) = (with_tcp_info(), "http://10.9.2.2/");
        let client = client(&sink).build().unwrap();
        client.get(url).await.unwrap().into_body().bytes().await.unwrap();
        close.notify_one();
        server.ended_unseen(1).await;
        assert!(client.post(url, "once").await.is_err());
        client.close().await;
        let trace = sink.snapshot("");
        let root = root(&trace, "http_stale_keep_alive");
        assert_eq!((root.severity, root.about.as_str()), (Severity::Failure, "10.9.2.2:80"));
        let acked: u64 = quoted(&root, "tcpInfo.bytesAcked").parse().unwrap();
        assert!(acked <= trace.tcp_conns[0].total_sent_bytes, "{root}");
        assert_eq!(root.evidence[0].record, trace.http_requests[0].trace_id);
    });
}

#[tokio::test]
async fn a_connection_that_is_closed_instead_of_a_response() {
    let sink = TraceSink::new();
    let trace = scripted(&sink, async |mut conn| {
        conn.read_head().await?;
        conn.close().await
    })
    .await;
    let root = root(&trace, "http_closed_without_response");
    assert_eq!((quoted(&root, "failure"), quoted(&root, "endReason")), ("eof_error", "peer-closed"));
    assert!(root.sentence.contains("without a response"), "{root}");
    assert!(root.suggestion.ends_with("If it expects TLS, use https."), "{root}");
}

#[tokio::test]
async fn a_connection_that_is_closed_within_the_head_of_the_response() {
    let sink = TraceSink::new();
    let trace = scripted(&sink, async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\nConte").await?;
        conn.close().await
    })
    .await;
    let root = root(&trace, "http_closed_without_response");
    assert!(root.sentence.contains("within the head of the response, after 22 bytes"), "{root}");
    assert!(!root.suggestion.contains("TLS"), "{root}");
}

#[tokio::test]
async fn a_response_that_is_cut_off() {
    for (head, declared) in [("content-length: 10", "of 10 bytes"), ("transfer-encoding: chunked", "5 bytes")]
    {
        let sink = with_headers();
        let trace = scripted(&sink, async move |mut conn| {
            conn.read_head().await?;
            let body = if head.contains("chunked") { "5\r\nhalf!\r\n" } else { "half!" };
            conn.write(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}").as_bytes()).await?;
            conn.close().await
        })
        .await;
        let root = root(&trace, "http_truncated");
        assert_eq!(quoted(&root, "RespContentLen"), "5");
        assert!(root.sentence.contains(declared) && root.not_seen.is_empty(), "{root}");
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_decoded() {
    let sink = TraceSink::new();
    let trace = scripted(&sink, async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nplain").await?;
        conn.read_to_end().await
    })
    .await;
    let root = root(&trace, "http_decoding_error");
    assert_eq!(quoted(&root, "reqError"), trace.http_requests[0].req_error.as_str());
}

#[tokio::test]
async fn a_redirect_to_a_url_that_cannot_be_requested() {
    for location in ["ftp://a.test/", "http://[bad/"] {
        let sink = TraceSink::new();
        let trace = scripted(&sink, async move |mut conn| {
            conn.read_head().await?;
            conn.write(
                format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n").as_bytes(),
            )
            .await?;
            conn.read_to_end().await
        })
        .await;
        let root = root(&trace, "http_invalid_redirect");
        assert_eq!((quoted(&root, "respStatusCode"), root.severity), ("302", Severity::Failure));
    }
}

#[tokio::test]
async fn a_response_that_is_not_http() {
    let sink = TraceSink::new();
    let trace = scripted(&sink, async |mut conn| {
        conn.read_head().await?;
        conn.write(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n").await?;
        conn.read_to_end().await
    })
    .await;
    let root = root(&trace, "http_protocol_error");
    assert!(!quoted(&root, "reqError").is_empty());
}

#[tokio::test]
async fn a_head_that_is_too_large() {
    let sink = TraceSink::new();
    let trace = scripted(&sink, async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\n").await?;
        loop {
            conn.write(&b"x-more: and more\r\n".repeat(100)).await?;
        }
    })
    .await;
    let too_large = root(&trace, "http_headers_too_large");
    assert!(quoted(&too_large, "reqError").contains("message head is too large"));
    let (sink, web) = (TraceSink::new(), Web::start(async |_| status(431)));
    let trace = trace_of(&sink, &client(&sink).build().unwrap(), &web.url("/")).await;
    let refused = root(&trace, "http_headers_too_large");
    assert_eq!((quoted(&refused, "respStatusCode"), refused.not_seen.len()), ("431", 1));
}

/// The response comes while the program still gives the body.
#[tokio::test]
async fn a_request_that_is_refused_before_its_body_has_ended() {
    let sink = TraceSink::new();
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.read(b"9\r\nsome data\r\n".len()).await?;
        conn.write(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n").await?;
        conn.read_to_end().await
    });
    let client = client(&sink).build().unwrap();
    let body = endless(std::iter::once(Bytes::from_static(b"some data")));
    let response = client.post(format!("http://{}/", server.addr()), body).await.unwrap();
    response.into_body().bytes().await.unwrap();
    client.close().await;
    let root = root(&sink.snapshot(""), "http_early_response");
    assert_eq!((quoted(&root, "respStatusCode"), quoted(&root, "reqContentLen")), ("413", "9"));
}

/// What the program sees is the reset within the response.
#[tokio::test]
async fn a_request_that_is_refused_and_reset_before_its_body_has_ended() {
    let (sink, is_answered) = (TraceSink::new(), Arc::new(Notify::new()));
    let answered = is_answered.clone();
    let server = Server::start(async move |mut conn| {
        conn.read_head().await?;
        conn.read(b"9\r\nsome data\r\n".len()).await?;
        conn.write(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 10\r\n\r\nhalf!").await?;
        answered.notified().await;
        conn.reset()
    });
    let client = client(&sink).build().unwrap();
    let body = endless(std::iter::once(Bytes::from_static(b"some data")));
    let response = client.post(format!("http://{}/", server.addr()), body).await.unwrap();
    is_answered.notify_one();
    assert!(response.into_body().bytes().await.is_err());
    client.close().await;
    let root = root(&sink.snapshot(""), "http_early_response");
    assert_eq!((quoted(&root, "respStatusCode"), root.severity), ("413", Severity::Failure));
}

#[tokio::test]
async fn redirects_in_a_circle() {
    let (sink, web) = (TraceSink::new(), Web::start(async |_| redirect(302, "/")));
    let trace = trace_of(&sink, &client(&sink).build().unwrap(), &web.url("/")).await;
    let found = root(&trace, "http_redirect_loop");
    assert!(found.sentence.contains("redirects in a circle"), "{}", found.sentence);
    let further = async |request: ReceivedRequest| redirect(302, &format!("{}x", request.path()));
    let (sink, web) = (TraceSink::new(), Web::start(further));
    let trace = trace_of(&sink, &client(&sink).build().unwrap(), &web.url("/")).await;
    let found = root(&trace, "http_redirect_loop");
    assert!(found.sentence.contains("further after 9 redirects"), "{}", found.sentence);
}

#[tokio::test]
async fn several_redirects_in_a_row() {
    let sink = TraceSink::new();
    let web = Web::start(async |request: ReceivedRequest| match request.path().len() {
        length @ ..4 => redirect(302, &format!("/{}", "x".repeat(length))),
        _ => reply("hello"),
    });
    let trace = trace_of(&sink, &client(&sink).build().unwrap(), &web.url("/")).await;
    let root = root(&trace, "http_redirect_detour");
    assert_eq!((root.severity, quoted(&root, "respStatusCode")), (Severity::Degraded, "302"));
    assert!(root.sentence.starts_with("3 redirects led from"), "{}", root.sentence);
}

/// Requests a URL of a server that answers with this status and this header field.
async fn answered(sink: &TraceSink, code: u16, name: &'static str, value: &'static str) -> NetTrace {
    let web = Web::start(async move |_| {
        let mut response = status(code);
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        response
    });
    trace_of(sink, &client(sink).build().unwrap(), &web.url("/")).await
}

#[tokio::test]
async fn too_many_requests_or_an_overload() {
    for code in [429, 503] {
        let found = root(&answered(&with_headers(), code, "retry-after", "120").await, "http_throttled");
        assert_eq!((quoted(&found, "respHeader.retry-after"), found.not_seen.len()), ("120", 0));
        let found = root(&answered(&TraceSink::new(), code, "retry-after", "120").await, "http_throttled");
        assert_eq!((quoted(&found, "respStatusCode"), found.not_seen.len()), (&*code.to_string(), 1));
    }
}

#[tokio::test]
async fn an_error_of_a_gateway() {
    for code in [502, 504, 522] {
        let found = root(&answered(&with_headers(), code, "via", "1.1 edge").await, "http_gateway_error");
        assert!(found.sentence.contains("(via: 1.1 edge)"), "{}", found.sentence);
        let found = root(&answered(&TraceSink::new(), code, "via", "1.1 edge").await, "http_gateway_error");
        assert_eq!((quoted(&found, "respStatusCode"), found.not_seen.len()), (&*code.to_string(), 1));
    }
}

/// Requests a URL of a server that answers as a gRPC server does that has nothing but a status.
async fn grpc(sink: &TraceSink, code: &'static str, message: &'static str) -> NetTrace {
    let web = Web::start(async move |_| {
        let mut response = reply("");
        for (name, value) in
            [("content-type", "application/grpc"), ("grpc-status", code), ("grpc-message", message)]
        {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    });
    let client = client(sink).http_version(HttpVersion::Http2Only).build().unwrap();
    trace_of(sink, &client, &web.url("/greeter.Greeter/Greet")).await
}

#[tokio::test]
async fn a_grpc_status_under_a_status_of_200() {
    let found = root(&grpc(&with_headers(), "14", "no server").await, "grpc_error");
    assert!(found.sentence.ends_with("the gRPC status UNAVAILABLE: no server."), "{}", found.sentence);
    let found = root(&grpc(&TraceSink::new(), "14", "no server").await, "grpc_error");
    assert_eq!((quoted(&found, "grpcStatus"), found.not_seen.len()), ("14", 1));
    assert!(explained(&grpc(&with_headers(), "5", "no server").await).is_empty(), "NOT_FOUND is an answer");
}

/// What a server sends may not control the terminal that a finding is printed on.
#[tokio::test]
async fn a_message_with_control_characters_is_escaped() {
    let sink = with_headers();
    let trace = grpc(&sink, "13", "%1B[2J").await;
    let root = root(&trace, "grpc_error");
    assert!(root.sentence.contains('\u{1b}'));
    for text in [root.to_string(), only_verdict(&trace).to_string(), explained(&trace).to_string()] {
        assert!(!text.contains('\u{1b}') && text.contains("[2J"), "{text:?}");
    }
}

#[tokio::test]
async fn a_wait_for_100_continue_that_does_not_come() {
    let sink = with_headers();
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.read(4).await?;
        conn.write(b"HTTP/1.1 204 No Content\r\n\r\n").await
    });
    let client = client(&sink).expect_continue_timeout(Duration::from_millis(100)).build().unwrap();
    let request = Request::post(format!("http://{}/", server.addr())).header("expect", "100-continue");
    client.request(request.body(Body::from("data")).unwrap()).await.unwrap();
    client.close().await;
    let root = root(&sink.snapshot(""), "http_expect_wait");
    assert_eq!((quoted(&root, "reqHeader.expect"), root.severity), ("100-continue", Severity::Degraded));
}

/// Posts a body that does not end to a server that reads nothing of it, or all.
async fn uploaded(sink: &TraceSink, reads: bool, body: Body) -> NetTrace {
    let server = Server::start(async move |mut conn| {
        conn.read_head().await?;
        if reads { conn.read_to_end().await } else { conn.hang().await }
    });
    let client = client(sink).timeout(Duration::from_millis(200)).build().unwrap();
    client.post(format!("http://{}/", server.addr()), body).await.unwrap_err();
    client.close().await;
    sink.snapshot("")
}

#[tokio::test]
async fn a_body_that_is_not_sent_in_time() {
    let piece = Bytes::from(vec![b'x'; 64 << 10]);
    let unread = uploaded(&with_tcp_info(), false, endless(std::iter::repeat(piece))).await;
    let verdict = only_verdict(&unread);
    let codes: Vec<_> = verdict.findings.iter().map(|finding| finding.code.as_str()).collect();
    // Whether the window is closed at the very end is up to the kernel.
    assert!(matches!(codes[0], "tcp_zero_window" | "http_upload_slow"), "{verdict}");
    let slow =
        verdict.findings.iter().find(|finding| finding.code == "http_upload_slow").expect("what it led to");
    assert!(slow.sentence.ends_with("127.0.0.1 did not read it."), "{}", slow.sentence);
    let some = || endless(std::iter::once(Bytes::from_static(b"some data")));
    let found = root(&uploaded(&with_tcp_info(), true, some()).await, "http_upload_slow");
    assert!(found.sentence.ends_with("the program gave it too slowly."), "{}", found.sentence);
    let found = root(&uploaded(&TraceSink::new(), true, some()).await, "http_upload_slow");
    assert_eq!((quoted(&found, "reqContentLen"), found.not_seen.len()), ("9", 1));
}

#[tokio::test]
async fn a_body_that_does_not_go_on() {
    let sinks = [TraceSink::new(), TraceSink::builder().socket_ops(false).probe(TcpInfoProbe::new()).build()];
    for (sink, field) in sinks.iter().zip(["socketTrace.socketOps", "tcpInfo.lastDataRecvMs"]) {
        let trace = limited(sink, Duration::from_millis(400), async |mut conn| {
            conn.read_head().await?;
            conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf!").await?;
            conn.hang().await
        })
        .await;
        let root = root(&trace, "http_body_stalls");
        assert!(!quoted(&root, field).is_empty());
        assert!(root.sentence.contains("of which 5 bytes had come"), "{}", root.sentence);
    }
}

/// Sends a body in twenty pieces, 5 ms apart, and the last one later.
async fn in_pieces(sink: &TraceSink, last: Duration) -> NetTrace {
    limited(sink, None, async move |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n").await?;
        for at in 0..20 {
            tokio::time::sleep(if at == 19 { last } else { Duration::from_millis(5) }).await;
            conn.write(b"x").await?;
        }
        conn.read_to_end().await
    })
    .await
}

#[tokio::test]
async fn a_body_that_pauses() {
    let found = root(&in_pieces(&TraceSink::new(), Duration::from_millis(500)).await, "http_body_stalls");
    assert_eq!(found.severity, Severity::Degraded);
    assert!(quoted(&found, "socketTrace.socketOps").starts_with("read of 1 bytes that waited"));
    let steady = in_pieces(&TraceSink::new(), Duration::from_millis(5)).await;
    assert!(explained(&steady).is_empty(), "{}", explained(&steady));
}
