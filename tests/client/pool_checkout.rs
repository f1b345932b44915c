//! What the record of a request says about how the pool gave it a connection.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use nettrace::TraceSink;
use nettrace::client::HttpVersion;
use nettrace::record::{NotReused, PoolCheckout, PoolConnection, PoolWait};
use test_support::raw::Server;
use test_support::wait;
use test_support::web::{Web, reply};
use tokio::sync::Notify;

use crate::{client, poll_until, read};

/// Returns what is recorded about each request, in order.
fn checkouts(sink: &TraceSink) -> Vec<PoolCheckout> {
    let trace = sink.snapshot("");
    trace.http_requests.iter().map(|request| *request.pool.clone().expect("of this crate's client")).collect()
}

/// Returns the parts of a checkout that do not depend on time.
fn parts(checkout: &PoolCheckout) -> (Option<PoolConnection>, Option<PoolWait>, Option<NotReused>) {
    assert_eq!(checkout.idle_us.is_some(), checkout.connection == Some(PoolConnection::Reused));
    (checkout.connection.clone(), checkout.waited_for.clone(), checkout.not_reused.clone())
}

/// Returns a server that answers a request each time that it is notified.
fn held() -> (Web, Arc<Notify>) {
    let go_on = Arc::new(Notify::new());
    let going_on = go_on.clone();
    let web = Web::start(async move |_| {
        going_on.notified().await;
        reply("hello")
    });
    (web, go_on)
}

#[tokio::test]
async fn connections_are_new_or_reused_for_a_reason() {
    let server = Server::start(async |mut conn| {
        loop {
            let head = conn.read_head().await?;
            let closes = head.starts_with("GET /close");
            let field = if closes { "connection: close\r\n" } else { "" };
            conn.write(
                format!("HTTP/1.1 200 OK\r\nx-peer: 1\r\n{field}content-length: 0\r\n\r\n").as_bytes(),
            )
            .await?;
            if closes {
                return conn.close().await;
            }
        }
    });
    let (client, sink) = client(|builder| builder);
    let url = |path: &str| format!("http://{}{path}", server.addr());
    let conns_closed = |count: usize| {
        let sink = sink.clone();
        wait::until("the end of the connection", move || {
            sink.snapshot("").tcp_conns.iter().filter(|conn| conn.end_reason.is_some()).count() == count
        })
    };
    read(client.get(url("/a")).await).await;
    read(client.get(url("/close")).await).await;
    conns_closed(1).await;
    read(client.get(url("/c")).await).await;
    client.close_idle_connections();
    conns_closed(2).await;
    read(client.get(url("/d")).await).await;

    let checkouts = checkouts(&sink);
    let new = |reason| (Some(PoolConnection::New), None, Some(reason));
    assert_eq!(
        checkouts.iter().map(parts).collect::<Vec<_>>(),
        [
            new(NotReused::First),
            (Some(PoolConnection::Reused), None, None),
            new(NotReused::NotKept),
            new(NotReused::ClosedByProgram)
        ]
    );
    assert!(checkouts[1].idle_us.is_some_and(|idle| idle < 60_000_000), "{checkouts:#?}");
}

#[tokio::test]
async fn a_request_that_waits_at_the_limit_says_so() {
    let (web, go_on) = held();
    let (client, sink) = client(|builder| builder.max_conns_per_host(1));
    let url = web.url("/");
    let first = tokio::spawn(client.get(&url));
    wait::until("the first request", || web.requests().len() == 1).await;
    let second = tokio::spawn(client.get(&url));
    wait::until("the second request", || sink.snapshot("").http_requests.len() == 2).await;
    // A third one gives up.
    assert!(tokio::time::timeout(Duration::from_millis(20), client.get(&url)).await.is_err());
    go_on.notify_one();
    first.await.unwrap().unwrap().into_body().bytes().await.unwrap();
    go_on.notify_one();
    second.await.unwrap().unwrap().into_body().bytes().await.unwrap();

    let at_limit = |connection| (connection, Some(PoolWait::Limit), Some(NotReused::Busy));
    assert_eq!(
        checkouts(&sink).iter().map(parts).collect::<Vec<_>>(),
        [
            (Some(PoolConnection::New), None, Some(NotReused::First)),
            at_limit(Some(PoolConnection::Reused)),
            at_limit(None)
        ]
    );
}

#[tokio::test]
async fn requests_over_http2_share_a_connection() {
    let (web, _go_on) = held();
    let (client, sink) = client(|builder| builder.http_version(HttpVersion::Http2Only));
    let url = web.url("/");
    let mut both = Box::pin(join(client.get(&url), client.get(&url)));
    poll_until(both.as_mut(), || web.requests().len() == 2).await;
    let mut third = Box::pin(client.get(&url));
    poll_until(third.as_mut(), || web.requests().len() == 3).await;
    assert_eq!(
        checkouts(&sink).iter().map(parts).collect::<Vec<_>>(),
        [
            (Some(PoolConnection::New), None, Some(NotReused::First)),
            (Some(PoolConnection::Shared), Some(PoolWait::Dial), Some(NotReused::Busy)),
            (Some(PoolConnection::Shared), None, None)
        ]
    );
}
