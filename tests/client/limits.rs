//! Limits on the number of connections.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use nettrace::record::EndReason;
use nettrace::{Client, TraceSink};
use tokio::sync::Semaphore;

use crate::{client, end_reasons, eventually, poll_until, read};
use test_support::background::within;
use test_support::web::{ReceivedRequest, Web, reply};

/// Starts a server that takes a permit of the semaphore before it answers `/wait…`, and answers other paths at once.
fn gated_server() -> (Web, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let permits = gate.clone();
    let web = Web::start(async move |request: ReceivedRequest| {
        if request.path().starts_with("/wait") {
            permits.acquire().await.expect("never closed").forget();
        }
        reply("hello")
    });
    (web, gate)
}

fn open_conns(sink: &TraceSink) -> usize {
    sink.snapshot("").tcp_conns.iter().filter(|conn| conn.end_reason.is_none()).count()
}

/// Makes `count` requests at the same time, each on a connection of its own. Returns the client ports.
async fn requests_at_once(client: &Client, web: &Web, gate: &Semaphore, count: usize) -> Vec<u16> {
    let before = web.requests().len();
    let url = web.url("/wait");
    let requests = join_all((0..count).map(|_| async { read(client.get(&url).await).await.0 }));
    let mut requests = pin!(requests);
    poll_until(requests.as_mut(), || web.requests().len() == before + count).await;
    gate.add_permits(count);
    requests.await
}

#[tokio::test]
async fn idle_connections_to_one_host_are_limited() {
    let (web, gate) = gated_server();
    let (client, sink) = client(|builder| builder.max_idle_conns_per_host(2));
    requests_at_once(&client, &web, &gate, 5).await;
    eventually(|| open_conns(&sink) == 2).await;
    assert_eq!(sink.snapshot("").tcp_conns.len(), 5);
}

#[tokio::test]
async fn idle_connections_to_all_hosts_are_limited() {
    let (hosts, (client, sink)) =
        ([gated_server(), gated_server()], client(|builder| builder.max_idle_conns(3)));
    for (web, gate) in &hosts {
        requests_at_once(&client, web, gate, 4).await;
    }
    eventually(|| open_conns(&sink) == 3).await;
    assert_eq!(
        end_reasons(&sink),
        [&[const { Some(EndReason::IdleLimit) }; 5][..], &[const { None }; 3]].concat()
    );
    // The connections that were idle the longest are closed: those to the first host.
    let trace = sink.snapshot("");
    let remaining = trace.tcp_conns.iter().filter(|conn| conn.end_reason.is_none());
    assert!(remaining.into_iter().all(|conn| conn.addr_tuple.dst_port == hosts[1].0.addr().port()));
    read(client.get(hosts[1].0.url("/")).await).await;
    assert_eq!(sink.snapshot("").tcp_conns.len(), 8, "an idle connection was reused");
}

#[tokio::test]
async fn requests_succeed_if_no_idle_connections_are_kept() {
    let (web, gate) = gated_server();
    for count in [1, 8] {
        let (client, sink) = client(|builder| builder.max_idle_conns(0));
        requests_at_once(&client, &web, &gate, count).await;
        eventually(|| open_conns(&sink) == 0).await;
        assert_eq!(end_reasons(&sink), vec![Some(EndReason::IdleLimit); count]);
        read(client.get(web.url("/")).await).await;
    }
    let (client, sink) = client(|builder| builder.max_idle_conns_per_host(0));
    requests_at_once(&client, &web, &gate, 3).await;
    eventually(|| open_conns(&sink) == 0).await;
}

#[tokio::test]
async fn a_new_connection_is_not_idle_before_its_request_uses_it() {
    let web = Web::start(async |_| reply("hello"));
    let (client, sink) = client(|builder| builder.max_idle_conns(1));
    for _ in 0..10 {
        join_all((0..8).map(|_| async { read(client.get(web.url("/")).await).await })).await;
    }
    eventually(|| open_conns(&sink) <= 1).await;
}

#[tokio::test]
async fn open_connections_to_one_host_are_limited() {
    let (web, gate) = gated_server();
    let (client, sink) = client(|builder| builder.max_conns_per_host(2));
    let urls: Vec<_> = (0..6).map(|i| web.url(&format!("/wait/{i}"))).collect();
    let requests = join_all(urls.iter().map(async |url| read(client.get(url).await).await.0));
    let mut requests = pin!(requests);
    poll_until(requests.as_mut(), || web.requests().len() == 2).await;
    for _ in 0..100 {
        assert!(futures_util::poll!(requests.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!((web.requests().len(), sink.snapshot("").dials.len()), (2, 2), "the other requests wait");
    // Each host has its own limit.
    let other_host = Web::start(async |_| reply("hello"));
    read(client.get(other_host.url("/")).await).await;

    gate.add_permits(6);
    let ports: std::collections::HashSet<_> = requests.await.into_iter().collect();
    assert_eq!(ports.len(), 2);
    let trace = sink.snapshot("");
    assert_eq!(trace.tcp_conns.len(), 3, "no unnecessary connection was opened");
    let waited = |request: &nettrace::record::HttpReqTrace| {
        let timings = request.timings(&trace);
        timings.connect.is_none() && timings.blocked > trace.http_requests[0].timings(&trace).blocked
    };
    assert_eq!(trace.http_requests.iter().filter(|request| waited(request)).count(), 4);
}

/// A dial that kept waiting would open an unnecessary connection once it gets its permit.
#[tokio::test]
async fn a_waiting_dial_is_dropped_if_its_request_gets_another_connection() {
    let (web, gate) = gated_server();
    let (client, sink) = client(|builder| builder.max_conns_per_host(1));
    {
        let (first, second) = (web.url("/wait/1"), web.url("/wait/2"));
        let mut both = pin!(async { tokio::join!(client.get(&first), client.get(&second)) });
        poll_until(both.as_mut(), || web.requests().len() == 1).await;
        gate.add_permits(2);
        let (first, second) = both.await;
        assert_eq!(read(first).await.0, read(second).await.0);
    }
    client.close_idle_connections();
    eventually(|| open_conns(&sink) == 0).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!((sink.snapshot("").dials.len(), sink.snapshot("").tcp_conns.len()), (1, 1));
    // The permit is not lost with the dial.
    read(client.get(web.url("/")).await).await;
    assert_eq!(sink.snapshot("").tcp_conns.len(), 2);
}

#[tokio::test]
async fn a_dropped_request_does_not_block_the_next_one_in_the_queue() {
    let (web, gate) = gated_server();
    let (client, _) = client(|builder| builder.max_conns_per_host(1));
    let (first, second) = (web.url("/wait/1"), web.url("/2"));
    let mut first = pin!(client.get(&first));
    poll_until(first.as_mut(), || web.requests().len() == 1).await;
    {
        let mut second = pin!(client.get(&second));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
    }
    let third = client.get(&second);
    gate.add_permits(1);
    let (first, third) = tokio::join!(async { read(first.await).await }, async { read(third.await).await });
    assert_eq!(first.0, third.0);
    assert_eq!(web.requests().len(), 2);
}

#[tokio::test]
async fn a_broken_connection_releases_its_permit() {
    let server = test_support::raw::Server::start(async |mut conn| {
        conn.read_head().await?;
        match conn.index {
            0 => conn.reset(),
            _ => {
                conn.write(b"HTTP/1.1 200 OK\r\nx-peer: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    .await
            }
        }
    });
    let (client, _) = client(|builder| builder.max_conns_per_host(1));
    let url = format!("http://{}/", server.addr());
    let requests = join_all((0..3).map(|_| client.get(&url)));
    let answers = within(Duration::from_secs(20), requests).await.expect("no request waits forever");
    let failed: Vec<_> = answers.iter().map(Result::is_err).collect();
    assert_eq!(failed, [true, false, false], "only the first request got the reset");
    assert_eq!(server.seen().len(), 3, "each request had a connection of its own");
}

#[tokio::test]
async fn a_limit_of_zero_allows_one_connection() {
    let web = Web::start(async |_| reply("hello"));
    let (client, _) = client(|builder| builder.max_conns_per_host(0));
    assert_eq!(read(client.get(web.url("/")).await).await.1, "hello");
}
