//! A client that is closed or dropped leaves no connection and no task behind.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use http_body_util::BodyExt as _;
use nettrace::client::{Body, ClientClosed, HttpVersion};
use nettrace::record::EndReason;
use nettrace::{Failure, TraceSink};

use crate::{client, poll_until, read, request};
use test_support::dns::DnsServer;
use test_support::raw::Server;
use test_support::wait::alive_tasks;
use test_support::web::{ReceivedRequest, Web, reply};

/// Returns the number of this process's sockets that are connected to the port of `addr`.
pub fn sockets_to(addr: SocketAddr) -> usize {
    let own_inodes: HashSet<String> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|to| Some(to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let port = format!(":{:04X}", addr.port());
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let columns = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    columns.filter(|columns| columns[2].ends_with(&port) && own_inodes.contains(columns[9])).count()
}

/// Asserts that no connection to `addr`, no task and no unfinished record is left.
#[track_caller]
fn assert_nothing_left(sink: &TraceSink, addr: SocketAddr) {
    assert_eq!((sockets_to(addr), alive_tasks()), (0, 0));
    let trace = sink.snapshot("");
    let open = trace.tcp_conns.iter().filter(|conn| conn.end_reason.is_none()).count()
        + trace.dials.iter().filter(|dial| dial.end_reason.is_none()).count()
        + trace.http_requests.iter().filter(|request| request.end_reason.is_none()).count();
    assert_eq!(open, 0, "{trace:#?}");
}

#[tokio::test]
async fn close_closes_idle_connections() {
    let web = Web::start(async |_| reply("hello"));
    for version in [HttpVersion::Http1Only, HttpVersion::Http2Only] {
        let (client, sink) =
            client(|builder| builder.http_version(version).idle_timeout(Duration::from_secs(90)));
        let requests = (0..5).map(|_| async { read(client.get(web.url("/")).await).await });
        futures_util::future::join_all(requests).await;
        assert!(sockets_to(web.addr()) > 0 && alive_tasks() > 0);
        client.close().await;
        assert_nothing_left(&sink, web.addr());
        let trace = sink.snapshot("");
        assert!(trace.tcp_conns.iter().all(|conn| conn.end_reason == Some(EndReason::Closed)));
        client.close().await;
    }
}

#[tokio::test]
async fn requests_after_close_fail() {
    let web = Web::start(async |_| reply("hello"));
    let (client, sink) = client(|builder| builder);
    let clone = client.clone();
    client.close().await;
    for client in [client, clone] {
        let error = client.get(web.url("/")).await.unwrap_err();
        assert!(error.is_closed() && !error.is_timeout());
        assert_eq!(error.failure(), Failure::ClientClosed);
        assert!(std::error::Error::source(&error).is_some_and(|source| source.is::<ClientClosed>()));
    }
    assert!(web.requests().is_empty() && sink.snapshot("").dials.is_empty());
}

#[tokio::test]
async fn close_fails_requests_in_flight() {
    for version in [HttpVersion::Http1Only, HttpVersion::Http2Only] {
        let web = Web::start(async |request: ReceivedRequest| match request.path() {
            "/never" => std::future::pending().await,
            _ => reply("hello"),
        });
        let (client, sink) = client(|builder| builder.http_version(version));
        let (never, url) = (web.url("/never"), web.url("/"));
        let mut waiting = pin!(async { tokio::join!(client.get(&never), client.get(&never)) });
        poll_until(waiting.as_mut(), || web.requests().len() == 2).await;
        read(client.get(&url).await).await;
        let ((first, second), ()) = tokio::join!(waiting, client.close());
        for error in [first.unwrap_err(), second.unwrap_err()] {
            assert!(error.is_closed(), "{version:?}: {error}");
            let record = error.request().trace().http_requests[0].clone();
            assert_eq!(record.failure, Some(Failure::ClientClosed));
            assert_eq!(record.end_reason, Some(EndReason::Failed));
        }
        assert_nothing_left(&sink, web.addr());
    }
}

#[tokio::test]
async fn close_cancels_dials() {
    let nameserver = DnsServer::silent().await;
    let before = alive_tasks();
    let (client, sink) = client(|builder| builder.nameservers([nameserver.addr()]));
    let mut waiting = pin!(client.get("http://web.test/"));
    poll_until(waiting.as_mut(), || !nameserver.queries().is_empty()).await;
    let (response, ()) = tokio::join!(waiting, client.close());
    let error = response.unwrap_err();
    assert!(error.is_closed(), "{error}");
    assert_eq!(alive_tasks(), before);
    let dial = sink.snapshot("").dials[0].clone();
    assert_eq!(dial.end_reason, Some(EndReason::Cancelled));
}

#[tokio::test]
async fn close_fails_requests_that_wait_for_a_connection() {
    let web = Web::start(async |_| std::future::pending().await);
    let (client, sink) = client(|builder| builder.max_conns_per_host(1));
    let url = web.url("/");
    let mut waiting = pin!(async { tokio::join!(client.get(&url), client.get(&url)) });
    poll_until(waiting.as_mut(), || web.requests().len() == 1).await;
    let ((first, second), ()) = tokio::join!(waiting, client.close());
    assert!(first.unwrap_err().is_closed() && second.unwrap_err().is_closed());
    assert_nothing_left(&sink, web.addr());
}

/// A response that is read after `close` ends with an error, so that it is not taken for complete.
#[tokio::test]
async fn close_does_not_wait_for_unread_responses() {
    for version in [HttpVersion::Http1Only, HttpVersion::Http2Only] {
        let web = Web::start(async |_| reply(vec![b'x'; 32 << 20]));
        let (client, sink) = client(|builder| builder.http_version(version));
        let mut body = client.get(web.url("/")).await.unwrap().into_body();
        assert!(body.frame().await.unwrap().is_ok());
        client.close().await;
        assert_eq!((sockets_to(web.addr()), alive_tasks()), (0, 0), "{version:?}");
        let error = loop {
            match body.frame().await.expect("an error before the end") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_nothing_left(&sink, web.addr());
        assert_eq!(sink.snapshot("").http_requests[0].end_reason, Some(EndReason::Failed), "{error}");
    }
}

#[tokio::test]
async fn close_does_not_wait_for_requests_that_are_being_sent() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.hang().await
    });
    let (client, sink) = client(|builder| builder);
    let forever = futures_util::stream::repeat_with(|| {
        Ok::<_, std::io::Error>(http_body::Frame::data(bytes::Bytes::from_static(&[b'x'; 65536])))
    });
    let body = Body::new(http_body_util::StreamBody::new(forever));
    let url = format!("http://{}/", server.addr());
    let mut waiting = pin!(client.request(request("POST", &url, &[], body)));
    poll_until(waiting.as_mut(), || !server.seen().is_empty()).await;
    let (response, ()) = tokio::join!(waiting, client.close());
    let error = response.unwrap_err();
    assert!(error.is_closed(), "{error}");
    assert_nothing_left(&sink, server.addr());
}

/// If no request is in flight, dropping the client has the same effect as `close`.
#[tokio::test]
async fn a_dropped_client_leaves_nothing_open() {
    let web = Web::start(async |_| reply("hello"));
    let (client, sink) = client(|builder| {
        builder.idle_timeout(Duration::from_secs(90)).max_conns_per_host(1).max_idle_conns(4)
    });
    let url = web.url("/");
    let (first, second) = tokio::join!(client.get(&url), client.get(&url));
    read(first).await;
    read(second).await;
    drop(client);
    crate::eventually(|| alive_tasks() == 0).await;
    assert_nothing_left(&sink, web.addr());
}

/// Another client can still record to the sink.
#[tokio::test]
async fn closing_a_client_does_not_close_its_sink() {
    let web = Web::start(async |_| reply("hello"));
    let (first, sink) = client(|builder| builder);
    let second = nettrace::Client::builder(&sink).build().unwrap();
    read(first.get(web.url("/")).await).await;
    first.close().await;
    read(second.get(web.url("/")).await).await;
    let trace = sink.snapshot("");
    let ends: Vec<_> = trace.tcp_conns.iter().map(|conn| conn.end_reason.clone()).collect();
    assert_eq!(ends, [Some(EndReason::Closed), None]);
}
