//! Requests that are dropped before they are complete: every record that is still open ends as cancelled, except that
//! established connections are closed.

use http_body_util::BodyExt as _;
use nettrace::client::Client;

use crate::fixture::{Fixture, Outcome, ended, reached, request, stuck_after};
use test_support::dns::DnsServer;
use test_support::lab::{Hook, Pair};
use test_support::require::require_lab;

const CANCELLED: (&str, &str) = ("cancelled", "interrupted");

#[tokio::test]
async fn dropping_a_request_cancels_its_name_lookup() {
    let fixture = Fixture::with(DnsServer::silent().await);
    let outcome =
        drop_at(&fixture.client(), "http://web.test/", fixture.nameserver.wait_for_queries(2)).await;
    outcome.assert_dial_failed(CANCELLED.0, CANCELLED.1);
    assert_eq!(outcome.trace.dns_queries.len(), 2);
    for query in &outcome.trace.dns_queries {
        assert_eq!(ended(query), CANCELLED);
        assert_eq!(ended(outcome.trace.udp_conns.get(&query.connection).expect("a socket")), CANCELLED);
    }
}

#[test]
fn dropping_a_request_cancels_its_dial() {
    require_lab!();
    let net = Pair::new();
    net.server.nft(Hook::Input, "tcp dport 80 drop");
    let outcome = net.client.block_on(async {
        let fixture = Fixture::new().await;
        let dialing = reached(&fixture.sink, |trace| !trace.tcp_conns.is_empty());
        drop_at(&fixture.client(), format!("http://{}/", Pair::SERVER.v4), dialing).await
    });
    outcome.assert_dial_failed(CANCELLED.0, CANCELLED.1);
    assert_eq!(ended(outcome.conn()), CANCELLED);
    assert!(!outcome.conn().connected);
}

#[tokio::test]
async fn dropping_a_request_cancels_its_tls_handshake() {
    let fixture = Fixture::new().await;
    let (server, hello) = stuck_after(async |conn| conn.read(16).await.map(drop));
    let outcome = drop_at(&fixture.client(), fixture.https(&server), hello.notified()).await;
    assert_eq!(ended(&outcome.request), CANCELLED);
    assert_eq!(ended(outcome.tunnel()), CANCELLED);
    outcome.assert_on(outcome.conn());
    assert_eq!(ended(outcome.conn()), ("closed", ""));
    assert_eq!(outcome.request.tls_tunnel, outcome.tunnel().trace_id);
    assert!(outcome.request.conn_acquired_at.is_undefined());
}

#[tokio::test]
async fn dropping_a_request_that_waits_for_the_header_cancels_it() {
    let fixture = Fixture::new().await;
    let (server, asked) = stuck_after(async |conn| conn.read_head().await.map(drop));
    let outcome = drop_at(&fixture.client(), fixture.http(&server), asked.notified()).await;
    assert_eq!(ended(&outcome.request), CANCELLED);
    outcome.assert_on(outcome.conn());
    assert_eq!(ended(outcome.conn()), ("closed", ""));
    assert!(!outcome.request.conn_acquired_at.is_undefined() && outcome.request.resp_recv_at.is_undefined());
    let timings = outcome.request.timings(&outcome.trace);
    assert!(timings.wait.is_some() && timings.receive.is_none(), "{timings}");
}

#[tokio::test]
async fn dropping_a_response_within_its_body_cancels_the_request() {
    let fixture = Fixture::new().await;
    let (server, _) = stuck_after(async |conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf!").await
    });
    let client = fixture.client();
    let (request, handle) = request(fixture.http(&server));
    let mut response = client.request(request).await.expect("a header");
    let frame = response.frame().await.expect("a frame").expect("no error");
    assert_eq!(frame.into_data().expect("data"), "half!");
    drop(response);
    let outcome = Outcome::of(&client, &handle).await;
    assert_eq!(ended(&outcome.request), CANCELLED);
    outcome.assert_on(outcome.conn());
    assert_eq!(ended(outcome.conn()), ("closed", ""));
    assert_eq!((outcome.request.resp_status_code, outcome.request.resp_content_len), (200, 5));
    assert!(outcome.request.resp_body_end_at.is_undefined());
    let timings = outcome.request.timings(&outcome.trace);
    assert!(timings.receive.is_some() && timings.total.is_some(), "{timings}");
}

/// A request that waits for a connection of its host has begun no other record.
#[tokio::test]
async fn dropping_a_request_that_waits_for_a_connection_cancels_it() {
    let fixture = Fixture::new().await;
    let (server, asked) = stuck_after(async |conn| conn.read_head().await.map(drop));
    let client = fixture.builder().max_conns_per_host(1).build().unwrap();
    let (first, _) = request(fixture.http(&server));
    let first = tokio::spawn(client.request(first));
    asked.notified().await;
    let queued = reached(&fixture.sink, |trace| trace.http_requests.len() == 2);
    let outcome = drop_at(&client, fixture.http(&server), queued).await;
    assert!(first.await.expect("no panic").is_err(), "the client was closed");
    assert_eq!(ended(&outcome.request), CANCELLED);
    assert!(outcome.request.tcp_conn.is_undefined());
    assert_ne!(outcome.dial().triggered_by, outcome.request.trace_id);
    let timings = outcome.request.timings(&outcome.trace);
    assert_eq!(timings.blocked, timings.total);
}

/// Makes a request and drops it when `moment` completes.
async fn drop_at(client: &Client, url: impl AsRef<str>, moment: impl Future<Output = ()>) -> Outcome {
    let (request, handle) = request(url);
    tokio::select! {
        biased;
        () = moment => {}
        result = client.request(request) => panic!("{result:?}"),
    }
    Outcome::of(client, &handle).await
}
