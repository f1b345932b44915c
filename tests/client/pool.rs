//! Pooled connections that are handed over or break at the worst moment.

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
use crate::{client, eventually, read, request, until};
use test_support::raw::{Conn, Refused, Server};
use test_support::web::{Asked, Web, reply};

const DONE: &[u8] = b"HTTP/1.1 200 OK\r\nx-peer: 1\r\ncontent-length: 0\r\n\r\n";

fn ends(sink: &TraceSink) -> Vec<Option<EndReason>> {
    sink.snapshot("").tcp_conns.iter().map(|conn| conn.end_reason.clone()).collect()
}

fn dials(sink: &TraceSink) -> usize {
    sink.snapshot("").dials.len()
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Lets every task run that can.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// A body that has more to send and never does.
fn never_ends() -> Body {
    let frames = futures_util::stream::pending::<Result<http_body::Frame<bytes::Bytes>, std::io::Error>>();
    Body::new(http_body_util::StreamBody::new(frames))
}

async fn response(answer: impl Future<Output = Answer>) -> ResponseBody {
    answer.await.unwrap_or_else(|error| panic!("{error}")).into_body()
}

type Answer = Result<http::Response<ResponseBody>, nettrace::client::ClientError>;

/// A connection that was idle, if only for a moment, may turn out to be closed: the request is sent again.
#[tokio::test]
async fn one_that_was_handed_over_and_closed() {
    let close = Arc::new(Notify::new());
    let closed = close.clone();
    let server = Server::start(async move |mut conn| {
        conn.read_head().await?;
        conn.write(DONE).await?;
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
        until(first.as_mut(), || server.seen().len() == 1).await;
        assert!(futures_util::poll!(second.as_mut()).is_pending(), "it waits");
        response(first).await;
    }
    settle().await;
    close.notify_one();
    eventually(|| ends(&sink).first().is_some_and(Option::is_some)).await;
    response(second).await;
    assert_eq!(server.seen().len(), 2);
}

/// A server may answer before it has received the whole request: the connection returns late or never, and no request
/// waits for it.
#[tokio::test]
async fn one_that_does_not_come_back_is_not_waited_for() {
    let reset = Arc::new(Notify::new());
    let resets = reset.clone();
    let server = Server::start(async move |mut conn| {
        conn.read_head().await?;
        if conn.index == 1 {
            resets.notified().await;
            return conn.reset();
        }
        conn.write(DONE).await?;
        conn.hang().await
    });
    let (client, _sink) = client(|builder| builder.max_conns_per_host(2));
    let url = format!("http://{}/", server.addr());
    response(client.request(request("POST", &url, &[], never_ends()))).await;
    let mut broken = pin!(client.get(&url));
    until(broken.as_mut(), || server.seen().get(1).is_some_and(|seen| !seen.received.is_empty())).await;
    let mut waits = pin!(client.get(&url));
    assert!(futures_util::poll!(waits.as_mut()).is_pending());
    pause();
    advance(Duration::from_millis(10)).await;
    resume();
    assert!(futures_util::poll!(waits.as_mut()).is_pending());
    reset.notify_one();
    assert!(broken.await.is_err());
    let answer = tokio::time::timeout(Duration::from_secs(10), waits).await;
    response(async { answer.expect("the place of the one that broke") }).await;
}

/// The same, where there is no limit: only those wait that come at that moment.
#[tokio::test(start_paused = true)]
async fn one_that_does_not_come_back_delays_nobody_for_long() {
    let server = Server::start(async move |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await?;
        conn.hang().await
    });
    let (client, _sink) = client(|builder| builder);
    let url = format!("http://{}/", server.addr());
    let body = response(client.request(request("POST", &url, &[], never_ends()))).await;
    body.bytes().await.unwrap();
    let begin = Instant::now();
    let mut bodies = Vec::new();
    for _ in 0..5 {
        bodies.push(response(client.get(&url)).await); // none of them is idle
    }
    assert!(begin.elapsed() < Duration::from_millis(10), "{:?}", begin.elapsed());
}

/// An HTTP/2 connection is dialled once for all requests, also if an older connection ends at that time.
#[tokio::test]
async fn one_for_all_is_dialled_once() {
    let web = Web::start(async |_| reply("hello"));
    let (client, sink) = client(|builder| builder.http_version(HttpVersion::Http2Only));
    read(client.get(web.url("/")).await).await;
    client.close_idle_connections(); // it will be noticed while the next is dialled
    let (second, third) = tokio::join!(client.get(web.url("/")), client.get(web.url("/")));
    assert_eq!(read(second).await, read(third).await);
    assert_eq!(dials(&sink), 2);
}

/// If the dial that all requests wait for fails or is dropped, the next request dials.
#[tokio::test]
async fn one_for_all_that_fails() {
    let nobody = Refused::on("127.0.0.1:0");
    let (client, sink) = client(|builder| builder.http_version(HttpVersion::Http2Only));
    let url = format!("http://{}/", nobody.addr);
    let answers = futures_util::future::join_all((0..4).map(|_| client.get(&url))).await;
    assert!(answers.iter().all(Result::is_err));
    assert_eq!(dials(&sink), 4);
}

#[tokio::test]
async fn one_for_all_that_is_given_up() {
    let web = Web::start(async |_| reply("hello"));
    let (client, sink) = client(|builder| builder.http_version(HttpVersion::Http2Only));
    let url = web.url("/");
    let mut first = Box::pin(client.get(&url));
    let mut second = pin!(client.get(&url));
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    assert!(futures_util::poll!(second.as_mut()).is_pending());
    assert_eq!(dials(&sink), 1);
    drop(first);
    read(second.await).await;
    assert_eq!(dials(&sink), 2);
}

/// A client that is gone leaves no connection behind, once the last response is.
#[tokio::test]
async fn one_whose_client_is_gone() {
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
                let mut body = response(client.get(web.url("/"))).await;
                assert!(body.frame().await.unwrap().is_ok());
                drop(client);
                assert_eq!(ends(&sink), [None]);
                match is_read {
                    true => drop(body.bytes().await.unwrap()),
                    false => drop(body),
                }
                eventually(|| tasks() == 0).await;
                assert_eq!(ends(&sink), [Some(EndReason::Closed)]);
            }
        }
    }
}

/// The time is over when it is over, not when a task got to see that.
#[tokio::test]
async fn one_that_was_idle_for_too_long() {
    let web = Web::start(async |_| reply("hello"));
    for version in [HttpVersion::Http1Only, HttpVersion::Http2Only] {
        let (client, _) =
            client(|builder| builder.http_version(version).idle_timeout(Duration::from_nanos(1)));
        let first = read(client.get(web.url("/")).await).await;
        assert_ne!(read(client.get(web.url("/")).await).await.0, first.0, "{version:?}");
    }
}

/// Connections that became idle at the same instant count towards the limit, too.
#[tokio::test(start_paused = true)]
async fn ones_that_became_idle_at_once() {
    let gate = Arc::new(Semaphore::new(0));
    let permits = gate.clone();
    let web = Web::start(async move |_| {
        permits.acquire().await.expect("never closed").forget();
        reply("hello")
    });
    let (client, sink) = client(|builder| builder.max_idle_conns(1));
    let url = web.url("/");
    let mut both = pin!(async { tokio::join!(client.get(&url), client.get(&url)) });
    until(both.as_mut(), || web.asked().len() == 2).await;
    gate.add_permits(2);
    let (first, second) = both.await;
    read(first).await;
    read(second).await;
    eventually(|| ends(&sink).contains(&Some(EndReason::IdleLimit))).await;
    settle().await;
    assert_eq!(ends(&sink).iter().filter(|end| end.is_none()).count(), 1);
}

/// Idle connections are closed in time by the runtime that they live on, even if another runtime has ended.
#[tokio::test]
async fn ones_of_several_runtimes() {
    const LIMIT: Duration = Duration::from_secs(90);
    let web = Web::start(async |_| reply("hello"));
    let (client, sink) = client(|builder| builder.idle_timeout(LIMIT));
    let body = response(client.get(web.url("/"))).await;
    let (elsewhere, url) = (client.clone(), web.url("/"));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { read(elsewhere.get(url).await).await });
    })
    .join()
    .unwrap();
    assert!(matches!(ends(&sink).as_slice(), [None, Some(_)]), "{:?}", ends(&sink));
    body.bytes().await.unwrap();
    settle().await;
    pause();
    advance(LIMIT + Duration::from_secs(1)).await;
    eventually(|| ends(&sink)[0] == Some(EndReason::IdleLimit)).await;
}

/// Requests and responses can be dropped on any thread, and with them go all but the connections that are idle.
#[tokio::test]
async fn ones_that_are_dropped_outside_of_a_runtime() {
    let web = Web::start(async |asked: Asked| match asked.path() {
        "/never" => std::future::pending().await,
        _ => reply(vec![b'x'; 1 << 20]),
    });
    for version in [HttpVersion::Http1Only, HttpVersion::Http2Only] {
        for limit in [None, Some(3)] {
            let (client, sink) = client(|builder| {
                builder.http_version(version).max_conns_per_host(limit).idle_timeout(Duration::from_secs(90))
            });
            let asked = web.asked().len();
            let mut sent: Pin<Box<_>> = Box::pin(client.get(web.url("/never")));
            until(sent.as_mut(), || web.asked().len() == asked + 1).await;
            let mut body = response(client.get(web.url("/"))).await;
            assert!(body.frame().await.unwrap().is_ok());
            let mut others: Vec<_> = (0..3).map(|_| Box::pin(client.get(web.url("/never")))).collect();
            for other in &mut others {
                assert!(futures_util::poll!(other.as_mut()).is_pending());
            }
            let unpolled = client.get(web.url("/"));
            std::thread::spawn(move || drop((sent, body, others, unpolled))).join().unwrap();
            client.close_idle_connections();
            eventually(|| ends(&sink).iter().all(Option::is_some)).await;
            assert!(sink.snapshot("").http_requests.iter().all(|request| request.end_reason.is_some()));
            client.close().await;
            assert_eq!(tasks(), 0);
        }
    }
}

/// A request body that is still being sent does not delay the end of a client.
#[tokio::test]
async fn one_that_waits_for_what_it_is_to_send() {
    for version in [HttpVersion::Http1Only, HttpVersion::Http2Only] {
        let web = Web::start(async |_| reply("hello"));
        let (client, sink) = client(|builder| builder.http_version(version));
        let mut waiting = pin!(client.request(request("POST", &web.url("/"), &[], never_ends())));
        until(waiting.as_mut(), || ends(&sink).len() == 1).await;
        for _ in 0..100 {
            assert!(futures_util::poll!(waiting.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        let (answer, ()) = tokio::join!(waiting, client.close());
        assert!(answer.is_err());
        assert_eq!(tasks(), 0);
    }
}

mod under_load {
    use super::*;
    use proptest::prelude::Rng as _;
    use proptest::test_runner::{RngAlgorithm, TestRng};

    /// Some connections are cut off before, some in the midst of a response.
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

    /// Makes one request, and drops it after a number of polls.
    async fn one(client: &nettrace::Client, url: &str, patience: u32) {
        let mut left = patience;
        let mut request = pin!(async { client.get(url).await?.into_body().bytes().await });
        std::future::poll_fn(|cx| {
            if left == 0 {
                return std::task::Poll::Ready(());
            }
            left -= 1;
            request.as_mut().poll(cx).map(drop)
        })
        .await;
    }

    async fn many(version: HttpVersion, addr: SocketAddr) {
        let url = format!("http://{addr}/");
        let (client, sink) = client(|builder| {
            builder.http_version(version).max_conns_per_host(3).max_idle_conns(2).idle_timeout(LIMIT)
        });
        let workers: Vec<_> = (0..16u8)
            .map(|worker| {
                let (client, url) = (client.clone(), url.clone());
                tokio::spawn(async move {
                    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[worker; 32]);
                    for _ in 0..60 {
                        // Most have all the time they need.
                        let patience = random.next_u32() % 12;
                        one(&client, &url, if patience > 8 { u32::MAX } else { patience }).await;
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
                .expect("nobody waits for ever")
                .unwrap();
        }
        // As many as there may be are still to be had.
        for _ in 0..3 {
            while client.get(&url).await.is_err() {}
        }
        client.close().await;
        eventually(|| tasks() == 0).await; // a runtime counts them a moment longer
        assert_eq!(sockets_to(addr), 0);
        let trace = sink.snapshot("");
        assert!(trace.tcp_conns.iter().all(|conn| conn.end_reason.is_some()));
        assert!(trace.dials.iter().all(|dial| dial.end_reason.is_some()));
        assert!(trace.http_requests.iter().all(|request| request.end_reason.is_some()));
    }

    const LIMIT: Duration = Duration::from_secs(90);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn over_connections_that_break() {
        let server = Server::start(unreliable);
        many(HttpVersion::Http1Only, server.addr()).await;
        assert!(server.seen().len() > 3);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn over_one_for_all() {
        let web = Web::start(async |_| reply("hello"));
        many(HttpVersion::Http2Only, web.addr()).await;
    }
}
