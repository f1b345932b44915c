//! Timeouts. Most tests pause the clock once the request has reached the phase that must time out.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use nettrace::client::{Body, HttpVersion, TimedOut};
use nettrace::connect::KeepAlive;
use nettrace::record::EndReason;
use nettrace::resolve::StubResolver;
use nettrace::{Client, Failure, NetTrace, TraceSink};
use tokio::sync::Semaphore;
use tokio::time::{Instant, advance, pause};

use crate::{client, poll_until, read, request};
use test_support::dns::DnsServer;
use test_support::raw::Server;
use test_support::web::{ReceivedRequest, Web, redirect, reply};

const TIMEOUT: Duration = Duration::from_secs(30);

/// Allows a difference of [`TOLERANCE`]: the timeout may have begun before the clock was paused.
#[track_caller]
fn assert_took(begin: Instant, expected: Duration) {
    let took = begin.elapsed();
    assert!(took <= expected + TOLERANCE && took + TOLERANCE >= expected, "{took:?}");
}

const TOLERANCE: Duration = Duration::from_secs(5);

#[track_caller]
fn assert_timed_out(trace: &NetTrace) {
    let last = trace.http_requests.last().expect("a request");
    assert_eq!(last.failure, Some(Failure::GenericTimeoutError), "{}", last.req_error);
    assert_eq!(last.end_reason, Some(EndReason::Timeout));
    assert!(!last.end_at.is_undefined());
}

#[tokio::test]
async fn the_timeout_covers_all_hops_together() {
    let gate = Arc::new(Semaphore::new(0));
    let permits = gate.clone();
    let web = Web::start(async move |request: ReceivedRequest| {
        permits.acquire().await.expect("never closed").forget();
        redirect(302, &format!("{}x", request.path()))
    });
    let (client, sink) = client(|builder| builder.timeout(TIMEOUT));
    let mut response = pin!(client.get(web.url("/")));
    poll_until(response.as_mut(), || web.requests().len() == 1).await;
    pause();
    advance(TIMEOUT / 2).await;
    gate.add_permits(1);
    poll_until(response.as_mut(), || web.requests().len() == 2).await;
    let begin = Instant::now();
    let error = response.await.unwrap_err();
    assert_took(begin, TIMEOUT / 2);
    assert!(error.is_timeout() && !error.is_closed());
    assert_eq!(error.timed_out().map(TimedOut::limit), Some(TIMEOUT));
    assert_eq!(error.failure(), Failure::GenericTimeoutError);
    let trace = error.request().trace();
    assert_eq!(trace.http_requests.len(), 2);
    assert_eq!(trace.http_requests[0].end_reason, Some(EndReason::Closed));
    assert_timed_out(&trace);
    assert_timed_out(&sink.snapshot(""));
}

#[tokio::test]
async fn the_timeout_covers_the_response_body() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await?;
        conn.hang().await
    });
    let (client, sink) = client(|builder| builder.timeout(TIMEOUT));
    let response = client.get(format!("http://{}/", server.addr())).await.unwrap();
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    pause();
    let error = body.frame().await.expect("an error").unwrap_err();
    assert!(error.is_timeout() && error.timed_out().is_some(), "{error:?}");
    assert!(body.frame().await.is_none(), "nothing after the error");
    let trace = sink.snapshot("");
    assert_timed_out(&trace);
    assert_eq!((trace.http_requests[0].resp_content_len, trace.http_requests[0].resp_status_code), (4, 200));
}

/// The data is read in time. Only the end of the body is polled after the timeout.
#[tokio::test]
async fn the_timeout_ends_when_the_response_body_is_complete() {
    let web = Web::start(async |_| reply("hello"));
    let (client, sink) = client(|builder| builder.timeout(TIMEOUT));
    let response = client.get(web.url("/")).await.unwrap();
    let mut body = response.into_body();
    assert!(body.frame().await.unwrap().is_ok());
    pause();
    advance(TIMEOUT * 2).await;
    assert!(body.frame().await.is_none());
    assert_eq!(sink.snapshot("").http_requests[0].end_reason, Some(EndReason::Closed));
}

#[tokio::test]
async fn the_timeout_covers_the_wait_for_a_connection() {
    let web = Web::start(async |_| std::future::pending().await);
    let (client, sink) = client(|builder| builder.timeout(TIMEOUT).max_conns_per_host(1));
    let mut first = pin!(client.get(web.url("/first")));
    poll_until(first.as_mut(), || web.requests().len() == 1).await;
    pause();
    let error = client.get(web.url("/second")).await.unwrap_err();
    let timings = error.request().timings().unwrap();
    assert_eq!((timings.connect, timings.blocked), (None, timings.total), "{timings}");
    assert_timed_out(&sink.snapshot(""));
    assert_eq!(sink.snapshot("").dials.len(), 1, "the second request did not dial");
}

#[tokio::test]
async fn a_tls_handshake_times_out() {
    let server = Server::start(async |conn| conn.hang().await);
    let (client, sink) = client(|builder| builder.tls_handshake_timeout(TIMEOUT));
    let mut response = pin!(client.get(format!("https://{}/", server.addr())));
    poll_until(response.as_mut(), || !sink.snapshot("").tls_tunnels.is_empty()).await;
    pause();
    let begin = Instant::now();
    let error = response.await.unwrap_err();
    assert_took(begin, TIMEOUT);
    assert!(error.is_timeout() && error.timed_out().is_none(), "the TLS layer timed out, not the client");
    let trace = sink.snapshot("");
    assert_timed_out(&trace);
    assert_eq!(trace.tls_tunnels[0].end_reason, Some(EndReason::Timeout));
    assert_eq!(trace.http_requests[0].tls_tunnel, trace.tls_tunnels[0].trace_id);
}

#[test]
fn a_tcp_handshake_times_out() {
    use test_support::lab::{Hook, Ns};
    test_support::require::require_lab!();
    let ns = Ns::new();
    ns.nft(Hook::Input, "tcp dport 80 drop");
    ns.block_on(async {
        let (client, sink) = client(|builder| builder.tcp_handshake_timeout(TIMEOUT));
        pause();
        let error = client.get("http://127.0.0.1/").await.unwrap_err();
        assert!(error.is_timeout() && error.timed_out().is_none());
        let trace = sink.snapshot("");
        assert_timed_out(&trace);
        assert_eq!(trace.tcp_conns[0].end_reason, Some(EndReason::Timeout));
        assert!(!trace.tcp_conns[0].connected);
    });
}

#[tokio::test]
async fn the_header_timeout_begins_when_the_request_has_been_sent() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.read_head().await?; // reads up to the end of the chunked body
        conn.hang().await
    });
    let (more, pieces) = tokio::sync::mpsc::unbounded_channel::<&str>();
    let pieces = futures_util::stream::unfold(pieces, |mut pieces| async {
        let piece = pieces.recv().await?;
        Some((Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(piece.as_bytes()))), pieces))
    });
    let body = Body::new(StreamBody::new(Box::pin(pieces)));
    let (client, sink) = client(|builder| builder.response_header_timeout(TIMEOUT));
    let url = format!("http://{}/", server.addr());
    let mut response = pin!(client.request(request("POST", &url, &[], body)));
    more.send("piece").unwrap();
    let received = |text: &'static str| {
        let server = &server;
        move || server.seen().iter().any(|seen| seen.received.ends_with(text.as_bytes()))
    };
    poll_until(response.as_mut(), || !server.seen().is_empty()).await;
    pause();
    advance(TIMEOUT * 2).await;
    assert!(futures_util::poll!(response.as_mut()).is_pending(), "the request body is still being sent");
    drop(more);
    poll_until(response.as_mut(), received("0\r\n\r\n")).await;
    let begin = Instant::now();
    let error = response.await.unwrap_err();
    assert_took(begin, TIMEOUT);
    assert_eq!(error.timed_out().map(TimedOut::limit), Some(TIMEOUT));
    assert!(error.is_timeout() && error.to_string().contains("header"), "{error}");
    let trace = sink.snapshot("");
    assert_timed_out(&trace);
    assert_eq!(trace.http_requests[0].req_content_len, 5);
    assert!(!trace.http_requests[0].tcp_conn.is_undefined());
}

#[tokio::test]
async fn the_header_timeout_does_not_cover_the_response_body() {
    let go_on = Arc::new(Semaphore::new(0));
    let gate = go_on.clone();
    let server = Server::start(async move |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst").await?;
        gate.acquire().await.expect("never closed").forget();
        conn.write(b" last").await
    });
    let (client, _) = client(|builder| builder.response_header_timeout(TIMEOUT));
    let response = client.get(format!("http://{}/", server.addr())).await.unwrap();
    pause();
    advance(TIMEOUT * 2).await;
    go_on.add_permits(1);
    assert_eq!(response.into_body().bytes().await.unwrap(), "first last");
}

/// The deadline of the longest timeout is beyond the largest `Instant`.
#[tokio::test]
async fn the_longest_timeout_never_expires() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    // A panic in a task that the client has spawned does not fail the test, so the hook counts it.
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.to_string().contains("overflow") {
            PANICS.fetch_add(1, Relaxed);
        }
        default_hook(panic);
    }));
    let web = Web::start(async |_| reply("hello"));
    let dns = DnsServer::answering(&["127.0.0.1"]).await;
    for version in [HttpVersion::Http1Only, HttpVersion::Http2Only] {
        let sink = TraceSink::new();
        let resolver = StubResolver::builder(&sink)
            .nameservers([dns.addr()])
            .resolv_conf(None)
            .hosts_file(None)
            .timeout(Duration::MAX)
            .build()
            .expect("nothing to read");
        let client = Client::builder(&sink)
            .resolver(resolver)
            .http_version(version)
            .timeout(Duration::MAX)
            .tcp_handshake_timeout(Duration::MAX)
            .proxy_handshake_timeout(Duration::MAX)
            .tls_handshake_timeout(Duration::MAX)
            .response_header_timeout(Duration::MAX)
            .expect_continue_timeout(Duration::MAX)
            .idle_timeout(Duration::MAX)
            .tcp_keep_alive(KeepAlive::Every(Duration::MAX))
            .build()
            .expect("a client");
        let url = format!("http://web.test:{}/", web.addr().port());
        for _ in 0..2 {
            let request = crate::request("GET", &url, &[("expect", "100-continue")], Body::empty());
            assert_eq!(read(client.request(request).await).await.1, "hello");
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
        let trace = sink.snapshot("");
        let conns = trace.tcp_conns.iter().filter(|conn| !conn.from_resolver);
        assert!(conns.clone().all(|conn| conn.end_reason.is_none()) && conns.count() == 1);
        client.close().await;
    }
    assert_eq!(PANICS.load(Relaxed), 0);
}
