//! Connections that are refused, time out, are reset at once, or succeed only with a later address.

use std::future::ready;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use hyper_util::client::legacy::connect::dns::Name;
use nettrace::client::Client;
use nettrace::connect::{ConnectError, TcpConnector};
use nettrace::record::EndReason;
use nettrace::{Failure, TraceSink};

use crate::fixture::{Fixture, Outcome, ended, failed, fetched, hello_on};
use test_support::check;
use test_support::dns::DnsServer;
use test_support::lab::{Hook, Ns, Pair, Routed};
use test_support::raw::{Refused, Server};
use test_support::require::require_lab;

#[tokio::test]
async fn a_refused_connection_fails_the_request() {
    let (fixture, closed_port) = (Fixture::new().await, Refused::on("127.0.0.1:0"));
    let failed = failed(&fixture.client(), format!("http://web.test:{}/", closed_port.addr.port())).await;
    let outcome = &failed.outcome;
    outcome.assert_dial_failed("failed", "connection_refused");
    let attempt = outcome.conn();
    assert_eq!(ended(attempt), ("failed", "connection_refused"));
    assert_eq!(attempt.from_dial, outcome.dial().trace_id);
    assert_eq!(
        (attempt.addr_tuple.dst_ip.as_str(), attempt.addr_tuple.dst_port),
        ("127.0.0.1", closed_port.addr.port())
    );
    assert!(attempt.handshake_err.contains("refused"), "{}", attempt.handshake_err);
    assert_eq!(outcome.trace.dns_queries.len(), 2, "one query for each address family");

    let error: &ConnectError = failed.cause();
    assert_eq!(error.attempts().len(), 1);
    assert_eq!((error.attempts()[0].addr, error.dial_id()), (closed_port.addr, &outcome.dial().trace_id));
    assert_eq!(failed.cause::<io::Error>().kind(), io::ErrorKind::ConnectionRefused);
    let timings = failed.error.request().timings().expect("it was traced");
    assert!(timings.dns.is_some() && timings.connect.is_some(), "{timings}");
    assert!(timings.tls.is_none() && timings.send.is_none() && timings.wait.is_none(), "{timings}");
}

/// The client does not fall back to another source address.
#[tokio::test]
async fn a_source_address_of_the_other_family_fails_the_request() {
    let (fixture, server) = (Fixture::new().await, Server::answering(b"HTTP/1.1 204 No Content\r\n\r\n"));
    let client = fixture.builder().source_ip(IpAddr::from(Ipv6Addr::LOCALHOST)).build().unwrap();
    let failed = failed(&client, format!("http://{}/", server.addr())).await;
    failed.outcome.assert_dial_failed("failed", "x_invalid_argument");
    assert!(failed.outcome.trace.tcp_conns.is_empty());
    assert!(server.seen().is_empty());
}

/// The connector tries every address within the connect timeout, and none after it.
#[test]
fn the_connect_timeout_covers_all_addresses_of_a_name() {
    require_lab!();
    let ns = Ns::new();
    ns.nft(Hook::Input, "tcp dport 1 drop");
    let limit = Duration::from_secs(3);
    let (took, error, trace) = ns.block_on(async move {
        tokio::time::pause();
        let sink = TraceSink::new();
        let addresses = [1, 2, 3].map(|last| SocketAddr::from(([127, 0, 0, last], 0)));
        let resolver = tower::service_fn(move |_: Name| ready(Ok::<_, io::Error>(addresses.into_iter())));
        let connector = TcpConnector::new(&sink).resolver(resolver).connect_timeout(limit);
        let connector = connector.attempt_delay(Duration::from_secs(60));
        let begin = tokio::time::Instant::now();
        let error = connector.connect("web.test:1").await.expect_err("no address answers");
        (begin.elapsed(), error, sink.snapshot(""))
    });
    assert!((limit..limit + Duration::from_millis(10)).contains(&took), "{took:?}");
    assert_eq!(error.attempts().len(), 3);
    let kinds = error.attempts().iter().map(|attempt| attempt.error.kind());
    assert!(kinds.eq([io::ErrorKind::TimedOut; 3]));
    check::finished(&trace);
    let timed_out = (&Some(EndReason::Timeout), &Some(Failure::GenericTimeoutError));
    assert_eq!((&trace.dials[0].end_reason, &trace.dials[0].failure), timed_out);
    assert_eq!(trace.tcp_conns.len(), 3);
    for conn in &trace.tcp_conns {
        assert_eq!((&conn.end_reason, &conn.failure), timed_out);
    }
}

#[test]
fn a_missing_route_fails_the_request() {
    require_lab!();
    let isolated = Ns::new();
    isolated.unreachable("10.8.2.0/24");
    isolated.prohibit("10.8.3.0/24");
    let net = Routed::new();
    net.router.unreachable("10.8.2.0/24");
    for (host, ip, failure, text) in [
        (&isolated, "10.8.1.1", "network_unreachable", "Network is unreachable"),
        (&isolated, "10.8.2.1", "host_unreachable", "No route to host"),
        (&isolated, "10.8.3.1", "x_permission_denied", "Permission denied"),
        // A router reports these with ICMP.
        (&net.client, "10.8.1.1", "network_unreachable", "Network is unreachable"),
        (&net.client, "10.8.2.1", "host_unreachable", "No route to host"),
    ] {
        let failed = host.block_on(async {
            let fixture = Fixture::new().await;
            failed(&fixture.client(), format!("http://{ip}/")).await
        });
        let outcome = &failed.outcome;
        outcome.assert_dial_failed("failed", failure);
        assert_eq!(ended(outcome.conn()), ("failed", failure));
        assert_eq!(outcome.conn().addr_tuple.dst_ip, ip);
        assert!(failed.error.to_string().contains(text), "{}", failed.error);
        assert!(outcome.dial().resolve_begin_at.is_undefined() && outcome.trace.dns_queries.is_empty());
    }
}

#[test]
fn a_lost_syn_times_out() {
    require_lab!();
    const LIMIT: Duration = Duration::from_millis(100);
    let net = Pair::new();
    net.server.nft(Hook::Input, "tcp dport 80 drop");
    let failed = net.client.block_on(async {
        let fixture = Fixture::new().await;
        let client = fixture.builder().tcp_handshake_timeout(LIMIT).build().unwrap();
        failed(&client, format!("http://{}/", Pair::SERVER.v4)).await
    });
    let outcome = &failed.outcome;
    outcome.assert_dial_failed("timeout", "generic_timeout_error");
    let attempt = outcome.conn();
    assert_eq!(ended(attempt), ("timeout", "generic_timeout_error"));
    assert!(attempt.handshake_end_at.since(attempt.handshake_begin_at).unwrap() >= LIMIT);
    assert_eq!(attempt.addr_tuple.src_ip, Pair::CLIENT.v4.to_string(), "the socket was bound");
    assert!(failed.error.is_timeout());
    assert_eq!(failed.cause::<io::Error>().kind(), io::ErrorKind::TimedOut);
}

/// It depends on timing whether the connection is established before it is reset.
#[tokio::test]
async fn a_reset_right_after_the_accept_fails_the_request() {
    for _ in 0..20 {
        let fixture = Fixture::new().await;
        let server = Server::start(async |conn| conn.reset());
        let failed = failed(&fixture.client(), fixture.http(&server)).await;
        let outcome = &failed.outcome;
        assert_eq!(ended(&outcome.request), ("failed", "connection_reset"));
        assert_eq!(ended(outcome.conn()), ("failed", "connection_reset"));
        match outcome.conn().connected {
            true => outcome.assert_on(outcome.conn()),
            false => outcome.assert_dial_failed("failed", "connection_reset"),
        }
        assert_eq!((outcome.request.resp_status_code, outcome.conn().total_recv_bytes), (0, 0));
    }
}

#[tokio::test]
async fn the_second_address_is_used_if_the_first_refuses() {
    let closed_port = Refused::on("127.0.0.1:0");
    let listener = TcpListener::bind(("127.0.0.2", closed_port.addr.port())).expect("the port is free");
    let _server = hello_on(listener);
    let fixture = Fixture::with(DnsServer::answering(&["127.0.0.1", "127.0.0.2"]).await);
    let client = fixture.client();
    let outcome = fetch(&client, closed_port.addr.port()).await;

    let attempts = outcome.attempts();
    assert_eq!(attempts.len(), 2);
    assert_eq!(ended(attempts[0]), ("failed", "connection_refused"));
    assert_eq!(attempts[0].addr_tuple.dst_ip, "127.0.0.1");
    assert!(!attempts[0].connected && attempts[1].connected);
    assert_eq!(attempts[1].addr_tuple.dst_ip, "127.0.0.2");
    assert!(
        attempts[0].handshake_end_at <= attempts[1].handshake_begin_at,
        "the second attempt begins after the first has failed"
    );
    outcome.assert_on(attempts[1]);
    assert!(outcome.request.attempts.is_empty(), "the request was sent once");
}

#[test]
fn the_second_address_wins_the_race_if_the_first_is_silent() {
    require_lab!();
    let net = Pair::new();
    net.server.address("s0", "10.9.0.3/24");
    net.server.nft(Hook::Input, "ip daddr 10.9.0.2 tcp dport 80 drop");
    let _server = hello_on(net.server.listen("10.9.0.3:80"));
    let outcome = net.client.block_on(async {
        let fixture = Fixture::with(DnsServer::answering(&["10.9.0.2", "10.9.0.3"]).await);
        fetch(&fixture.client(), 80).await
    });
    let attempts = outcome.attempts();
    assert_eq!(attempts.len(), 2);
    assert_eq!(ended(attempts[0]), ("lost-race", "interrupted"));
    let delay = attempts[1].handshake_begin_at.since(attempts[0].handshake_begin_at).unwrap();
    assert!(delay >= Duration::from_millis(250), "{delay:?}");
    assert!(
        attempts[0].handshake_end_at >= attempts[1].handshake_end_at,
        "the first attempt continues until the second has succeeded"
    );
    outcome.assert_on(attempts[1]);
}

#[tokio::test]
async fn the_request_fails_if_all_addresses_refuse() {
    let first = Refused::on("127.0.0.1:0");
    let _second = Refused::on(&format!("127.0.0.2:{}", first.addr.port()));
    let fixture = Fixture::with(DnsServer::answering(&["127.0.0.1", "127.0.0.2"]).await);
    let failed = failed(&fixture.client(), format!("http://web.test:{}/", first.addr.port())).await;
    let outcome = &failed.outcome;
    outcome.assert_dial_failed("failed", "connection_refused");
    let attempts = outcome.attempts();
    let ips: Vec<_> = attempts.iter().map(|attempt| attempt.addr_tuple.dst_ip.as_str()).collect();
    assert_eq!(ips, ["127.0.0.1", "127.0.0.2"]);
    for attempt in attempts {
        assert_eq!(ended(attempt), ("failed", "connection_refused"));
    }
    assert_eq!(failed.cause::<ConnectError>().attempts().len(), 2);
}

#[test]
fn each_failed_address_has_its_own_error() {
    require_lab!();
    let net = Pair::new();
    net.client.unreachable("10.8.0.0/24");
    net.server.nft(Hook::Input, "tcp dport 80 drop");
    let failed = net.client.block_on(async {
        let fixture = Fixture::with(DnsServer::answering(&["10.8.0.1", "10.9.0.2", "10.9.0.1"]).await);
        let client = fixture.builder().tcp_handshake_timeout(Duration::from_millis(100)).build().unwrap();
        failed(&client, "http://web.test/").await
    });
    let outcome = &failed.outcome;
    let attempts: Vec<_> = outcome.attempts().into_iter().map(ended).collect();
    let expected = [
        ("failed", "host_unreachable"),
        ("timeout", "generic_timeout_error"),
        ("failed", "connection_refused"),
    ];
    assert_eq!(attempts, expected);
    outcome.assert_dial_failed("failed", "connection_refused");
    for part in ["10.8.0.1:80: No route to host", "10.9.0.2:80: ", "10.9.0.1:80): Connection refused"] {
        assert!(failed.error.to_string().contains(part), "{}", failed.error);
    }
}

/// Makes a request that must succeed with a single dial.
async fn fetch(client: &Client, port: u16) -> Outcome {
    let (body, handle) = fetched(client, format!("http://web.test:{port}/")).await;
    assert_eq!(body, b"hello");
    let outcome = Outcome::of(client, &handle).await;
    assert_eq!(ended(&outcome.request), ("closed", ""));
    assert_eq!(ended(outcome.dial()), ("closed", ""));
    outcome
}
