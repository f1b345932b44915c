//! The timeout of the whole request, expiring in each phase, and the timeouts of single phases.

use std::time::Duration;

use nettrace::client::TimedOut;
use nettrace::tls::TlsError;

use crate::fixture::{Failed, Fixture, LONG, ended, expire, failed, reached, stuck_after};
use test_support::dns::DnsServer;
use test_support::lab::{Hook, Pair};
use test_support::require::require_lab;

/// The timeout of the whole request. It is shorter than the resolver's.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CANCELLED: (&str, &str) = ("cancelled", "interrupted");
const TIMED_OUT: (&str, &str) = ("timeout", "generic_timeout_error");

#[tokio::test]
async fn a_request_times_out_during_the_name_lookup() {
    let fixture = Fixture::with(DnsServer::silent().await);
    let failed = time_out_at(&fixture, "http://web.test/", fixture.nameserver.wait_for_queries(2)).await;
    let outcome = &failed.outcome;
    assert_eq!(ended(outcome.dial()), CANCELLED);
    assert_eq!(outcome.dial().triggered_by, outcome.request.trace_id);
    let queries: Vec<_> = outcome.trace.dns_queries.iter().map(ended).collect();
    assert_eq!(queries, [CANCELLED; 2]);
    let sockets: Vec<_> = outcome.trace.udp_conns.iter().map(ended).collect();
    assert_eq!(sockets, [CANCELLED; 2]);
    let timings = outcome.request.timings(&outcome.trace);
    assert!(timings.dns.is_some() && timings.connect.is_none(), "{timings}");
}

#[test]
fn a_request_times_out_during_the_dial() {
    require_lab!();
    let net = Pair::new();
    net.server.nft(Hook::Input, "tcp dport 80 drop");
    let failed = net.client.block_on(async {
        let fixture = Fixture::new().await;
        let dialing = reached(&fixture.sink, |trace| !trace.tcp_conns.is_empty());
        time_out_at(&fixture, format!("http://{}/", Pair::SERVER.v4), dialing).await
    });
    let outcome = &failed.outcome;
    assert_eq!((ended(outcome.dial()), ended(outcome.conn())), (CANCELLED, CANCELLED));
    assert!(outcome.request.tcp_conn.is_undefined());
    let timings = outcome.request.timings(&outcome.trace);
    assert!(timings.connect.is_some() && timings.send.is_none(), "{timings}");
}

#[tokio::test]
async fn a_request_times_out_during_the_tls_handshake() {
    let fixture = Fixture::new().await;
    let (server, hello) = stuck_after(async |conn| conn.read(16).await.map(drop));
    let failed = time_out_at(&fixture, fixture.https(&server), hello.notified()).await;
    let outcome = &failed.outcome;
    assert_eq!(ended(outcome.tunnel()), CANCELLED);
    outcome.assert_on(outcome.conn());
    assert_eq!(outcome.request.tls_tunnel, outcome.tunnel().trace_id);
    let timings = outcome.request.timings(&outcome.trace);
    assert!(timings.tls.is_some() && timings.send.is_none(), "{timings}");
}

#[tokio::test]
async fn a_request_times_out_while_it_waits_for_the_header() {
    let fixture = Fixture::new().await;
    let (server, asked) = stuck_after(async |conn| conn.read_head().await.map(drop));
    let failed = time_out_at(&fixture, fixture.http(&server), asked.notified()).await;
    let outcome = &failed.outcome;
    outcome.assert_on(outcome.conn());
    assert_eq!(ended(outcome.conn()), ("closed", ""));
    let timings = outcome.request.timings(&outcome.trace);
    assert!(timings.wait.is_some() && timings.receive.is_none(), "{timings}");
}

#[tokio::test]
async fn a_request_times_out_while_its_body_is_being_read() {
    let fixture = Fixture::new().await;
    let (server, _) = stuck_after(async |conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf!").await
    });
    let half = reached(&fixture.sink, |trace| trace.http_requests.iter().any(|it| it.resp_content_len == 5));
    let failed = time_out_at(&fixture, fixture.http(&server), half).await;
    let outcome = &failed.outcome;
    outcome.assert_on(outcome.conn());
    assert_eq!(ended(outcome.conn()), ("closed", ""));
    assert_eq!((outcome.request.resp_status_code, outcome.request.resp_content_len), (200, 5));
    assert!(outcome.request.timings(&outcome.trace).receive.is_some());
}

#[tokio::test]
async fn a_tls_handshake_times_out() {
    let fixture = Fixture::new().await;
    let (server, hello) = stuck_after(async |conn| conn.read(16).await.map(drop));
    let client = fixture.builder().tls_handshake_timeout(LONG).build().unwrap();
    let expiry = async {
        hello.notified().await;
        expire(LONG).await;
    };
    let (failed, ()) = tokio::join!(failed(&client, fixture.https(&server)), expiry);
    let outcome = &failed.outcome;
    assert_eq!((ended(&outcome.request), ended(outcome.tunnel())), (TIMED_OUT, TIMED_OUT));
    outcome.assert_on(outcome.conn());
    assert_eq!(outcome.request.tls_tunnel, outcome.tunnel().trace_id);
    assert_eq!(failed.cause::<TlsError>().failure().as_str(), TIMED_OUT.1);
    assert!(failed.error.is_timeout() && failed.error.timed_out().is_none());
    let text = failed.error.to_string();
    assert_eq!(text, "TLS handshake with web.test timed out: no end of the TLS handshake within 60s");
}

#[tokio::test]
async fn a_response_header_times_out() {
    let fixture = Fixture::new().await;
    let (server, asked) = stuck_after(async |conn| conn.read_head().await.map(drop));
    let client = fixture.builder().response_header_timeout(LONG).build().unwrap();
    let expiry = async {
        asked.notified().await;
        expire(LONG).await;
    };
    let (failed, ()) = tokio::join!(failed(&client, fixture.http(&server)), expiry);
    let outcome = &failed.outcome;
    assert_eq!(ended(&outcome.request), TIMED_OUT);
    outcome.assert_on(outcome.conn());
    assert_eq!(failed.error.to_string(), "the response's header did not come within 60s");
    assert_eq!(failed.error.timed_out().map(TimedOut::limit), Some(LONG));
}

/// Makes a request whose timeout expires when `moment` completes.
async fn time_out_at(fixture: &Fixture, url: impl AsRef<str>, moment: impl Future<Output = ()>) -> Failed {
    let client = fixture.builder().timeout(REQUEST_TIMEOUT).build().unwrap();
    let expiry = async {
        moment.await;
        expire(REQUEST_TIMEOUT).await;
    };
    let (failed, ()) = tokio::join!(failed(&client, url), expiry);
    assert_eq!(ended(&failed.outcome.request), TIMED_OUT);
    assert!(failed.error.is_timeout());
    assert_eq!(failed.error.timed_out().map(TimedOut::limit), Some(REQUEST_TIMEOUT));
    assert_eq!(failed.error.to_string(), "the request was not done within 30s");
    failed
}
