//! Timeouts of the whole request, in each of its phases, and of each phase by itself.

use std::time::Duration;

use nettrace::client::TimedOut;
use nettrace::tls::TlsError;

use crate::fixture::{Failed, Fixture, LONG, ended, expire, failed, reached, stuck_after};
use test_support::dns::DnsServer;
use test_support::lab::{Hook, Pair};
use test_support::require::require_lab;

/// The limit on the whole request; shorter than the resolver's.
const LIMIT: Duration = Duration::from_secs(30);
const CANCELLED: (&str, &str) = ("cancelled", "interrupted");
const TIMEOUT: (&str, &str) = ("timeout", "generic_timeout_error");

#[tokio::test]
async fn while_the_name_is_looked_up() {
    let fixture = Fixture::with(DnsServer::silent().await);
    let failed = timed_out(&fixture, "http://web.test/", fixture.nameserver.asked_times(2)).await;
    let outcome = &failed.outcome;
    assert_eq!(ended(outcome.dial()), CANCELLED);
    assert_eq!(outcome.dial().triggered_by, outcome.request.trace_id);
    assert_eq!(outcome.trace.dns_queries.len(), 2);
    assert!(outcome.trace.dns_queries.iter().all(|query| ended(query) == CANCELLED));
    assert!(outcome.trace.udp_conns.iter().all(|conn| ended(conn) == CANCELLED));
    let timings = outcome.request.timings(&outcome.trace);
    assert!(timings.dns.is_some() && timings.connect.is_none(), "{timings}");
}

#[test]
fn while_dialing() {
    require_lab!();
    let net = Pair::new();
    net.server.nft(Hook::Input, "tcp dport 80 drop");
    let failed = net.client.block_on(async {
        let fixture = Fixture::new().await;
        let dialing = reached(&fixture.sink, |trace| !trace.tcp_conns.is_empty());
        timed_out(&fixture, format!("http://{}/", Pair::SERVER.v4), dialing).await
    });
    let outcome = &failed.outcome;
    assert_eq!((ended(outcome.dial()), ended(outcome.conn())), (CANCELLED, CANCELLED));
    assert!(outcome.request.tcp_conn.is_undefined());
    let timings = outcome.request.timings(&outcome.trace);
    assert!(timings.connect.is_some() && timings.send.is_none(), "{timings}");
}

#[tokio::test]
async fn in_tls() {
    let fixture = Fixture::new().await;
    let (server, hello) = stuck_after(async |conn| conn.read(16).await.map(drop));
    let failed = timed_out(&fixture, fixture.https(&server), hello.notified()).await;
    let outcome = &failed.outcome;
    assert_eq!(ended(outcome.tunnel()), CANCELLED);
    outcome.assert_on(outcome.conn());
    assert_eq!(outcome.request.tls_tunnel, outcome.tunnel().trace_id);
    let timings = outcome.request.timings(&outcome.trace);
    assert!(timings.tls.is_some() && timings.send.is_none(), "{timings}");
}

#[tokio::test]
async fn while_waiting_for_the_header() {
    let fixture = Fixture::new().await;
    let (server, asked) = stuck_after(async |conn| conn.read_head().await.map(drop));
    let failed = timed_out(&fixture, fixture.http(&server), asked.notified()).await;
    let outcome = &failed.outcome;
    outcome.assert_on(outcome.conn());
    assert_eq!(ended(outcome.conn()), ("closed", ""));
    let timings = outcome.request.timings(&outcome.trace);
    assert!(timings.wait.is_some() && timings.receive.is_none(), "{timings}");
}

#[tokio::test]
async fn while_reading_the_body() {
    let fixture = Fixture::new().await;
    let (server, _) = stuck_after(async |conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf!").await
    });
    let half = reached(&fixture.sink, |trace| trace.http_requests.iter().any(|it| it.resp_content_len == 5));
    let failed = timed_out(&fixture, fixture.http(&server), half).await;
    let outcome = &failed.outcome;
    outcome.assert_on(outcome.conn());
    assert_eq!(ended(outcome.conn()), ("closed", ""));
    assert_eq!((outcome.request.resp_status_code, outcome.request.resp_content_len), (200, 5));
    assert!(outcome.request.timings(&outcome.trace).receive.is_some());
}

#[tokio::test]
async fn of_the_tls_handshake() {
    let fixture = Fixture::new().await;
    let (server, hello) = stuck_after(async |conn| conn.read(16).await.map(drop));
    let client = fixture.builder().tls_handshake_timeout(LONG).build().unwrap();
    let later = async {
        hello.notified().await;
        expire(LONG).await;
    };
    let (failed, ()) = tokio::join!(failed(&client, fixture.https(&server)), later);
    let outcome = &failed.outcome;
    assert_eq!((ended(&outcome.request), ended(outcome.tunnel())), (TIMEOUT, TIMEOUT));
    outcome.assert_on(outcome.conn());
    assert_eq!(outcome.request.tls_tunnel, outcome.tunnel().trace_id);
    assert_eq!(failed.cause::<TlsError>().failure().as_str(), TIMEOUT.1);
    assert!(failed.error.is_timeout() && failed.error.timed_out().is_none());
    let text = failed.error.to_string();
    assert_eq!(text, "TLS handshake with web.test timed out: no end of the TLS handshake within 60s");
}

#[tokio::test]
async fn of_the_header() {
    let fixture = Fixture::new().await;
    let (server, asked) = stuck_after(async |conn| conn.read_head().await.map(drop));
    let client = fixture.builder().response_header_timeout(LONG).build().unwrap();
    let later = async {
        asked.notified().await;
        expire(LONG).await;
    };
    let (failed, ()) = tokio::join!(failed(&client, fixture.http(&server)), later);
    let outcome = &failed.outcome;
    assert_eq!(ended(&outcome.request), TIMEOUT);
    outcome.assert_on(outcome.conn());
    assert_eq!(failed.error.to_string(), "the response's header did not come within 60s");
    assert_eq!(failed.error.timed_out().map(TimedOut::limit), Some(LONG));
}

/// A request whose time is over at that moment.
async fn timed_out(fixture: &Fixture, url: impl AsRef<str>, moment: impl Future<Output = ()>) -> Failed {
    let client = fixture.builder().timeout(LIMIT).build().unwrap();
    let later = async {
        moment.await;
        expire(LIMIT).await;
    };
    let (failed, ()) = tokio::join!(failed(&client, url), later);
    assert_eq!(ended(&failed.outcome.request), TIMEOUT);
    assert!(failed.error.is_timeout());
    assert_eq!(failed.error.timed_out().map(TimedOut::limit), Some(LIMIT));
    assert_eq!(failed.error.to_string(), "the request was not done within 30s");
    failed
}
