//! Idle connections: which connections are idle, how many are kept, for how long, and how they end.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use nettrace::TraceSink;
use nettrace::client::{Body, HttpVersion};
use nettrace::record::EndReason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{advance, pause, resume};

use crate::{client, eventually, read, request};
use test_support::raw::Server;
use test_support::wait::settle;
use test_support::web::{Web, reply};

const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

/// Returns the end reason of the first connection.
fn end_reason(sink: &TraceSink) -> Option<EndReason> {
    sink.snapshot("").tcp_conns[0].end_reason.clone()
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_timeout() {
    let web = Web::start(async |_| reply("hello"));
    for version in [HttpVersion::Http1Only, HttpVersion::Http2Only] {
        let (client, sink) = client(|builder| builder.idle_timeout(IDLE_TIMEOUT).http_version(version));
        let first = read(client.get(web.url("/")).await).await;
        pause();
        advance(IDLE_TIMEOUT - Duration::from_secs(1)).await;
        settle().await;
        assert_eq!(end_reason(&sink), None);
        resume();
        assert_eq!(read(client.get(web.url("/")).await).await.0, first.0, "reused; the timeout begins again");
        pause();
        advance(IDLE_TIMEOUT - Duration::from_secs(1)).await;
        settle().await;
        assert_eq!(end_reason(&sink), None);
        advance(Duration::from_secs(2)).await;
        eventually(|| end_reason(&sink).is_some()).await;
        assert_eq!(end_reason(&sink), Some(EndReason::IdleLimit));
        resume();
        assert_ne!(read(client.get(web.url("/")).await).await.0, first.0);
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_ninety_seconds_by_default() {
    let web = Web::start(async |_| reply("hello"));
    for (no_timeout, expected) in [(false, Some(EndReason::IdleLimit)), (true, None)] {
        let (client, sink) = client(|builder| if no_timeout { builder.idle_timeout(None) } else { builder });
        read(client.get(web.url("/")).await).await;
        pause();
        advance(IDLE_TIMEOUT - Duration::from_secs(1)).await;
        settle().await;
        assert_eq!(end_reason(&sink), None);
        advance(Duration::from_secs(2)).await;
        if !no_timeout {
            eventually(|| end_reason(&sink).is_some()).await;
        }
        settle().await;
        assert_eq!(end_reason(&sink), expected);
        resume();
    }
}

/// Without a limit, a server that redirects to one new host after another could exhaust the client's sockets.
#[tokio::test]
async fn at_most_a_hundred_idle_connections_are_kept_by_default() {
    const HOSTS: u32 = 300;
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a free port");
    let port = listener.local_addr().expect("it listens").port();
    let host = move |index: u32| format!("127.0.{}.{}:{port}", index / 250, index % 250 + 1);
    let server = Server::on(listener, async move |mut conn| {
        loop {
            let head = conn.read_head().await?;
            let index: u32 =
                head[5..].split(' ').next().and_then(|path| path.parse().ok()).expect("an index");
            let answer = match index {
                HOSTS => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello".to_owned(),
                _ => format!(
                    "HTTP/1.1 302 Found\r\nlocation: http://{}/{}\r\ncontent-length: 0\r\n\r\n",
                    host(index + 1),
                    index + 1
                ),
            };
            conn.write(answer.as_bytes()).await?;
        }
    });
    for (max, kept) in [(Some(100), 100), (None, HOSTS as usize + 1)] {
        let (client, sink) = client(|builder| {
            let builder = builder.max_redirects(1000);
            if max.is_none() { builder.max_idle_conns(None) } else { builder }
        });
        let url = format!("http://{}/0", host(0));
        let response = client.get(url).await.expect("a response");
        assert_eq!(response.into_body().bytes().await.expect("a body"), "hello");
        let open = || sink.snapshot("").tcp_conns.iter().filter(|conn| conn.end_reason.is_none()).count();
        eventually(|| open() == kept).await;
        let trace = sink.snapshot("");
        // The connections that were opened first have been idle the longest, so they are closed first.
        let ends: Vec<_> = trace.tcp_conns.iter().map(|conn| conn.end_reason.clone()).collect();
        let (closed, left) = ends.split_at(ends.len() - kept);
        assert!(closed.iter().all(|end| *end == Some(EndReason::IdleLimit)), "{closed:?}");
        assert!(left.iter().all(Option::is_none), "{left:?}");
    }
    drop(server);
}

#[tokio::test]
async fn a_connection_whose_response_is_being_read_is_not_idle() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst").await?;
        conn.read(1).await?;
        Ok(())
    });
    let (client, sink) = client(|builder| builder.idle_timeout(IDLE_TIMEOUT).max_idle_conns(0));
    let mut body = client.get(format!("http://{}/", server.addr())).await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
    pause();
    advance(IDLE_TIMEOUT * 2).await;
    client.close_idle_connections();
    settle().await;
    assert_eq!(end_reason(&sink), None);
    drop(body);
    eventually(|| end_reason(&sink).is_some()).await;
}

/// Over HTTP/2 one response may be complete while others are not.
#[tokio::test]
async fn an_http2_connection_with_an_open_stream_is_not_idle() {
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let permits = gate.clone();
    let web = Web::start(async move |request: test_support::web::ReceivedRequest| {
        if request.path() == "/wait" {
            permits.acquire().await.expect("never closed").forget();
        }
        reply("hello")
    });
    let (client, sink) = client(|builder| {
        builder.idle_timeout(IDLE_TIMEOUT).max_idle_conns(0).http_version(HttpVersion::Http2Only)
    });
    let url = web.url("/wait");
    let mut waiting = std::pin::pin!(client.get(&url));
    crate::poll_until(waiting.as_mut(), || web.requests().len() == 1).await;
    read(client.get(web.url("/")).await).await;
    pause();
    advance(IDLE_TIMEOUT * 2).await;
    client.close_idle_connections();
    settle().await;
    assert_eq!((end_reason(&sink), sink.snapshot("").tcp_conns.len()), (None, 1));
    resume();
    gate.add_permits(1);
    read(waiting.await).await;
    eventually(|| end_reason(&sink).is_some()).await;
    assert_eq!(end_reason(&sink), Some(EndReason::IdleLimit));
}

/// After `101 Switching Protocols` or `CONNECT` the connection belongs to the caller.
#[tokio::test]
async fn an_upgraded_connection_is_not_idle() {
    let server = Server::start(async |mut conn| {
        let head = conn.read_head().await?;
        let answer = match head.starts_with("CONNECT") {
            true => "HTTP/1.1 200 Connected\r\n\r\n",
            false => "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
        };
        conn.write(answer.as_bytes()).await?;
        let bytes = conn.read(4).await?;
        conn.write(&bytes).await?;
        conn.read_to_end().await
    });
    let url = format!("http://{}/", server.addr());
    let upgrade = [("connection", "upgrade"), ("upgrade", "echo")];
    for (method, target, headers) in
        [("GET", url.as_str(), &upgrade[..]), ("CONNECT", &server.addr().to_string(), &[])]
    {
        let (client, sink) = client(|builder| builder.idle_timeout(IDLE_TIMEOUT).max_idle_conns(0));
        let response = client.request(request(method, target, headers, Body::empty())).await.unwrap();
        let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        pause();
        advance(IDLE_TIMEOUT * 2).await;
        client.close_idle_connections();
        settle().await;
        resume();
        stream.write_all(b"ping").await.unwrap();
        stream.flush().await.unwrap();
        let mut echo = [0; 4];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!((&echo, end_reason(&sink)), (b"ping", None));
        drop(stream);
        assert_eq!(end_reason(&sink), Some(EndReason::Closed));
    }
}

#[tokio::test]
async fn close_idle_connections_closes_them() {
    let web = Web::start(async |_| reply("hello"));
    for version in [HttpVersion::Http1Only, HttpVersion::Http2Only] {
        let (client, sink) = client(|builder| builder.http_version(version));
        client.close_idle_connections();
        let first = read(client.get(web.url("/")).await).await;
        client.close_idle_connections();
        eventually(|| end_reason(&sink).is_some()).await;
        assert_eq!(end_reason(&sink), Some(EndReason::Closed));
        assert_ne!(read(client.get(web.url("/")).await).await.0, first.0, "the client still works");
    }
}

/// A connection may be closed as idle right before a request takes it. The request must not fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_idle_connections_does_not_fail_requests() {
    let web = Web::start(async |_| reply("hello"));
    let (client, _) = client(|builder| builder);
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (closing, stop) = (client.clone(), done.clone());
    let closer = tokio::spawn(async move {
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            closing.close_idle_connections();
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..300 {
        assert_eq!(read(client.get(web.url("/")).await).await.1, "hello");
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    closer.await.unwrap();
}
