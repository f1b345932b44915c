//! Races in the pool between requests, connections that end or become idle, and a client that is closed or dropped.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use nettrace::TraceSink;
use nettrace::client::{Body, HttpVersion, ResponseBody};
use nettrace::record::EndReason;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, advance, pause, resume};

use crate::close::sockets_to;
use crate::{client, end_reasons, eventually, poll_until, read, request};
use test_support::background::within;
use test_support::raw::{Conn, Refused, Server};
use test_support::wait::{alive_tasks, settle};
use test_support::web::{ReceivedRequest, Web, reply};

const EMPTY_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nx-peer: 1\r\ncontent-length: 0\r\n\r\n";

fn dial_count(sink: &TraceSink) -> usize {
    sink.snapshot("").dials.len()
}

/// Returns a request body that never yields a frame and never ends.
fn pending_body() -> Body {
    let frames = futures_util::stream::pending::<Result<http_body::Frame<bytes::Bytes>, std::io::Error>>();
    Body::new(http_body_util::StreamBody::new(frames))
}

/// Returns the body of a response that must succeed.
async fn expect_body(answer: impl Future<Output = ResponseResult>) -> ResponseBody {
    answer.await.unwrap_or_else(|error| panic!("{error}")).into_body()
}

type ResponseResult = Result<http::Response<ResponseBody>, nettrace::client::ClientError>;

/// The server may close a connection even if it was idle only for a moment.
#[tokio::test]
async fn a_request_that_was_handed_a_closed_connection_is_sent_again() {
    let close = Arc::new(Notify::new());
    let closed = close.clone();
    let server = Server::start(async move |mut conn| {
        conn.read_head().await?;
        conn.write(EMPTY_RESPONSE).await?;
        if conn.index == 0 {
            closed.notified().await;
            return Ok(());
        }
        conn.hang().await
    });
    let (client, sink) = client(|builder| builder.max_conns_per_host(1));
    let url = format!("http://{}/", server.addr());
    let (first, mut second) = (client.get(&url), pin!(client.get(&url)));
    {
        let mut first = pin!(first);
        poll_until(first.as_mut(), || server.seen().len() == 1).await;
        assert!(futures_util::poll!(second.as_mut()).is_pending(), "the second request waits");
        expect_body(first).await;
    }
    settle().await;
    close.notify_one();
    eventually(|| end_reasons(&sink).first().is_some_and(Option::is_some)).await;
    expect_body(second).await;
    assert_eq!(server.seen().len(), 2);
}

/// A server may answer before it has received the whole request. Its connection then becomes idle late or never, and no
/// request may depend on it.
#[tokio::test]
async fn requests_do_not_wait_for_a_connection_that_is_still_sending() {
    let reset = Arc::new(Notify::new());
    let resets = reset.clone();
    let server = Server::start(async move |mut conn| {
        conn.read_head().await?;
        if conn.index == 1 {
            resets.notified().await;
            return conn.reset();
        }
        conn.write(EMPTY_RESPONSE).await?;
        conn.hang().await
    });
    let (client, _sink) = client(|builder| builder.max_conns_per_host(2));
    let url = format!("http://{}/", server.addr());
    expect_body(client.request(request("POST", &url, &[], pending_body()))).await;
    let mut broken = pin!(client.get(&url));
    poll_until(broken.as_mut(), || server.seen().get(1).is_some_and(|seen| !seen.received.is_empty())).await;
    let mut waits = pin!(client.get(&url));
    assert!(futures_util::poll!(waits.as_mut()).is_pending());
    pause();
    advance(Duration::from_millis(10)).await;
    resume();
    assert!(futures_util::poll!(waits.as_mut()).is_pending());
    reset.notify_one();
    assert!(broken.await.is_err());
    let answer = tokio::time::timeout(Duration::from_secs(10), waits).await;
    expect_body(async { answer.expect("a connection in place of the broken one") }).await;
}

/// Without a limit on connections, a request waits for a short grace period at most.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_still_sending_delays_requests_only_briefly() {
    let server = Server::start(async move |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await?;
        conn.hang().await
    });
    let (client, _sink) = client(|builder| builder);
    let url = format!("http://{}/", server.addr());
    let body = expect_body(client.request(request("POST", &url, &[], pending_body()))).await;
    body.bytes().await.unwrap();
    let begin = Instant::now();
    let mut bodies = Vec::new();
    for _ in 0..5 {
        bodies.push(expect_body(client.get(&url)).await); // held, so that its connection is not idle
    }
    assert!(begin.elapsed() < Duration::from_millis(10), "{:?}", begin.elapsed());
}

/// Concurrent requests share a dial even if an older connection ends while it runs.
#[tokio::test]
async fn concurrent_http2_requests_share_one_dial() {
    let web = Web::start(async |_| reply("hello"));
    let (client, sink) = client(|builder| builder.http_version(HttpVersion::Http2Only));
    read(client.get(web.url("/")).await).await;
    client.close_idle_connections(); // noticed only during the next dial
    let (second, third) = tokio::join!(client.get(web.url("/")), client.get(web.url("/")));
    assert_eq!(read(second).await, read(third).await);
    assert_eq!(dial_count(&sink), 2);
}

/// All four requests wait for the first dial. When it fails, the other three dial in turn.
#[tokio::test]
async fn the_next_request_dials_if_a_shared_dial_fails() {
    let closed_port = Refused::on("127.0.0.1:0");
    let (client, sink) = client(|builder| builder.http_version(HttpVersion::Http2Only));
    let url = format!("http://{}/", closed_port.addr);
    let answers = futures_util::future::join_all((0..4).map(|_| client.get(&url))).await;
    assert!(answers.iter().all(Result::is_err));
    assert_eq!(dial_count(&sink), 4);
}

#[tokio::test]
async fn the_next_request_dials_if_a_shared_dial_is_dropped() {
    let web = Web::start(async |_| reply("hello"));
    let (client, sink) = client(|builder| builder.http_version(HttpVersion::Http2Only));
    let url = web.url("/");
    let mut first = Box::pin(client.get(&url));
    let mut second = pin!(client.get(&url));
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    assert!(futures_util::poll!(second.as_mut()).is_pending());
    assert_eq!(dial_count(&sink), 1);
    drop(first);
    read(second.await).await;
    assert_eq!(dial_count(&sink), 2);
}

#[tokio::test]
async fn a_connection_is_closed_after_its_client_and_its_last_response_are_dropped() {
    let web = Web::start(async |_| reply(vec![b'x'; 1 << 20]));
    for version in [HttpVersion::Http1Only, HttpVersion::Http2Only] {
        for limit in [None, Some(1)] {
            for is_read in [false, true] {
                let (client, sink) = client(|builder| {
                    builder
                        .http_version(version)
                        .max_conns_per_host(limit)
                        .idle_timeout(Duration::from_secs(90))
                });
                let mut body = expect_body(client.get(web.url("/"))).await;
                assert!(body.frame().await.unwrap().is_ok());
                drop(client);
                assert_eq!(end_reasons(&sink), [None]);
                match is_read {
                    true => drop(body.bytes().await.unwrap()),
                    false => drop(body),
                }
                eventually(|| alive_tasks() == 0).await;
                assert_eq!(end_reasons(&sink), [Some(EndReason::Closed)]);
            }
        }
    }
}

/// The deadline counts even if no task has noticed yet that it has passed.
#[tokio::test]
async fn a_connection_is_not_reused_after_its_idle_timeout() {
    let web = Web::start(async |_| reply("hello"));
    for version in [HttpVersion::Http1Only, HttpVersion::Http2Only] {
        let (client, _) =
            client(|builder| builder.http_version(version).idle_timeout(Duration::from_nanos(1)));
        let first = read(client.get(web.url("/")).await).await;
        assert_ne!(read(client.get(web.url("/")).await).await.0, first.0, "{version:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn connections_that_become_idle_at_the_same_instant_are_limited() {
    let gate = Arc::new(Semaphore::new(0));
    let permits = gate.clone();
    let web = Web::start(async move |_| {
        permits.acquire().await.expect("never closed").forget();
        reply("hello")
    });
    let (client, sink) = client(|builder| builder.max_idle_conns(1));
    let url = web.url("/");
    let mut both = pin!(async { tokio::join!(client.get(&url), client.get(&url)) });
    poll_until(both.as_mut(), || web.requests().len() == 2).await;
    gate.add_permits(2);
    let (first, second) = both.await;
    read(first).await;
    read(second).await;
    eventually(|| end_reasons(&sink).contains(&Some(EndReason::IdleLimit))).await;
    settle().await;
    assert_eq!(end_reasons(&sink).iter().filter(|end| end.is_none()).count(), 1);
}

/// The client has connections on two runtimes. Each runtime closes its own, even after the other has ended.
#[tokio::test]
async fn idle_connections_are_closed_after_another_runtime_has_ended() {
    const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
    let web = Web::start(async |_| reply("hello"));
    let (client, sink) = client(|builder| builder.idle_timeout(IDLE_TIMEOUT));
    let body = expect_body(client.get(web.url("/"))).await;
    let (other_client, url) = (client.clone(), web.url("/"));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { read(other_client.get(url).await).await });
    })
    .join()
    .unwrap();
    assert!(matches!(end_reasons(&sink).as_slice(), [None, Some(_)]), "{:?}", end_reasons(&sink));
    body.bytes().await.unwrap();
    settle().await;
    pause();
    advance(IDLE_TIMEOUT + Duration::from_secs(1)).await;
    eventually(|| end_reasons(&sink)[0] == Some(EndReason::IdleLimit)).await;
}

/// Requests and responses can be dropped on any thread. Their connections are closed or become idle.
#[tokio::test]
async fn requests_dropped_outside_a_runtime_release_their_connections() {
    let web = Web::start(async |request: ReceivedRequest| match request.path() {
        "/never" => std::future::pending().await,
        _ => reply(vec![b'x'; 1 << 20]),
    });
    for version in [HttpVersion::Http1Only, HttpVersion::Http2Only] {
        for limit in [None, Some(3)] {
            let (client, sink) = client(|builder| {
                builder.http_version(version).max_conns_per_host(limit).idle_timeout(Duration::from_secs(90))
            });
            let asked = web.requests().len();
            let mut sent: Pin<Box<_>> = Box::pin(client.get(web.url("/never")));
            poll_until(sent.as_mut(), || web.requests().len() == asked + 1).await;
            let mut body = expect_body(client.get(web.url("/"))).await;
            assert!(body.frame().await.unwrap().is_ok());
            let mut others: Vec<_> = (0..3).map(|_| Box::pin(client.get(web.url("/never")))).collect();
            for other in &mut others {
                assert!(futures_util::poll!(other.as_mut()).is_pending());
            }
            let unpolled = client.get(web.url("/"));
            std::thread::spawn(move || drop((sent, body, others, unpolled))).join().unwrap();
            client.close_idle_connections();
            eventually(|| end_reasons(&sink).iter().all(Option::is_some)).await;
            assert!(sink.snapshot("").http_requests.iter().all(|request| request.end_reason.is_some()));
            client.close().await;
            assert_eq!(alive_tasks(), 0);
        }
    }
}

#[tokio::test]
async fn close_does_not_wait_for_a_pending_request_body() {
    for version in [HttpVersion::Http1Only, HttpVersion::Http2Only] {
        let web = Web::start(async |_| reply("hello"));
        let (client, sink) = client(|builder| builder.http_version(version));
        let mut waiting = pin!(client.request(request("POST", &web.url("/"), &[], pending_body())));
        poll_until(waiting.as_mut(), || end_reasons(&sink).len() == 1).await;
        for _ in 0..100 {
            assert!(futures_util::poll!(waiting.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        let (answer, ()) = tokio::join!(waiting, client.close());
        let error = answer.unwrap_err();
        assert!(error.is_closed(), "{version:?}: {error}");
        assert_eq!(alive_tasks(), 0);
    }
}

mod under_load {
    use super::*;
    use proptest::prelude::Rng as _;
    use proptest::test_runner::{RngAlgorithm, TestRng};

    /// Resets some connections before a response, and closes some in the middle of one.
    async fn unreliable(mut conn: Conn) -> std::io::Result<()> {
        for count in 0.. {
            conn.read_head().await?;
            match (conn.index + count) % 7 {
                5 => return conn.reset(),
                6 => {
                    conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await?;
                    return conn.close().await;
                }
                _ => conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await?,
            }
        }
        Ok(())
    }

    /// Makes a request and drops it after at most `max_polls` polls.
    async fn poll_request(client: &nettrace::Client, url: &str, max_polls: u32) {
        let mut remaining = max_polls;
        let mut request = pin!(async { client.get(url).await?.into_body().bytes().await });
        std::future::poll_fn(|cx| {
            if remaining == 0 {
                return std::task::Poll::Ready(());
            }
            remaining -= 1;
            request.as_mut().poll(cx).map(drop)
        })
        .await;
    }

    /// Makes many concurrent requests, drops some of them, and asserts that the client then closes everything.
    async fn run_workers(version: HttpVersion, addr: SocketAddr) {
        let url = format!("http://{addr}/");
        let (client, sink) = client(|builder| {
            builder.http_version(version).max_conns_per_host(3).max_idle_conns(2).idle_timeout(IDLE_TIMEOUT)
        });
        let workers: Vec<_> = (0..16u8)
            .map(|worker| {
                let (client, url) = (client.clone(), url.clone());
                tokio::spawn(async move {
                    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[worker; 32]);
                    for _ in 0..60 {
                        // A quarter of the requests are polled to their end.
                        let polls = random.next_u32() % 12;
                        poll_request(&client, &url, if polls > 8 { u32::MAX } else { polls }).await;
                        if worker == 0 {
                            client.close_idle_connections();
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            tokio::time::timeout(Duration::from_secs(60), worker)
                .await
                .expect("no request waits forever")
                .unwrap();
        }
        // No permit is lost. Over HTTP/1, three responses that are not read need three connections at the same time. A
        // connection that the server closes does not count, because it releases its permit.
        let mut unread = Vec::new();
        let get_three = async {
            while unread.len() < 3 {
                unread.extend(
                    client
                        .get(&url)
                        .await
                        .into_iter()
                        .filter(|answer| answer.headers()["content-length"] == "5"),
                );
            }
        };
        within(Duration::from_secs(20), get_three).await.expect("permits for three connections");
        drop(unread);
        client.close().await;
        eventually(|| alive_tasks() == 0).await; // the runtime counts ended tasks a little longer
        assert_eq!(sockets_to(addr), 0);
        let trace = sink.snapshot("");
        assert!(trace.tcp_conns.iter().all(|conn| conn.end_reason.is_some()));
        assert!(trace.dials.iter().all(|dial| dial.end_reason.is_some()));
        assert!(trace.http_requests.iter().all(|request| request.end_reason.is_some()));
    }

    const IDLE_TIMEOUT: Duration = Duration::from_secs(90);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn http1_requests_over_breaking_connections_leave_nothing_open() {
        let server = Server::start(unreliable);
        run_workers(HttpVersion::Http1Only, server.addr()).await;
        assert!(server.seen().len() > 3);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn http2_requests_over_one_connection_leave_nothing_open() {
        let web = Web::start(async |_| reply("hello"));
        run_workers(HttpVersion::Http2Only, web.addr()).await;
    }
}
