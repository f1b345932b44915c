//! The connect timeout of an endpoint limits the same phases as without tracing, and is recorded as a timeout.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nettrace::record::{EndReason, NetTrace};
use nettrace::tonic::{Channel, connect, connect_lazy};
use nettrace::{Failure, TraceSink};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::greeter::{GreeterClient, Name};
use crate::servers::{ReservedPort, call, closed, greet};
use test_support::dnsmasq::Dnsmasq;
use test_support::errors::io_kind;
use test_support::lab::{self, Hook, Ns};
use test_support::pki::Authority;
use test_support::require::{require_lab, require_tool};
use test_support::slow::{relay_tcp, relay_udp};
use test_support::{check, process};

/// The connect timeout: shorter than [`DELAY`], and much longer than a handshake on the loopback interface.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// The delay of name resolution and of TLS handshakes.
const DELAY: Duration = Duration::from_millis(1200);

/// Asserts that calls succeed over untraced and traced channels, both lazy and connected in advance.
async fn assert_calls_succeed(endpoint: &Endpoint) {
    GreeterClient::new(endpoint.connect_lazy()).greet(Name::of("Ada")).await.expect("untraced, lazy");
    let channel = endpoint.connect().await.expect("untraced");
    GreeterClient::new(channel).greet(Name::of("Ada")).await.expect("untraced");

    let sink = TraceSink::new();
    let client = GreeterClient::new(connect_lazy(&sink, endpoint.clone()));
    greet(&client, "Ada").await.1.expect("traced, lazy");
    drop(client);
    let channel: Channel = connect(&sink, endpoint.clone()).await.expect("traced");
    let client = GreeterClient::new(channel);
    greet(&client, "Ada").await.1.expect("traced");
    drop(client);
    let trace = closed(&sink).await;
    assert!(trace.dials.iter().all(|dial| dial.failure.is_none()), "{:?}", trace.dials);
    check::finished(&trace);
}

/// Name resolution takes longer than the connect timeout, with the system's resolver (untraced) and with this crate's
/// (traced). Both read `/etc/resolv.conf`, so the test runs in a child process that sees another file there.
#[test]
fn alone_the_timeout_does_not_limit_name_resolution() {
    const IN_CHILD: &str = "NETTRACE_TEST_SLOW_NAMES";
    require_lab!();
    require_tool!("dnsmasq");
    if std::env::var_os(IN_CHILD).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let place = ReservedPort::new();
            let _server = place.serve();
            let url = format!("http://slow.test:{}", place.addr().port());
            assert_calls_succeed(&Endpoint::from_shared(url).unwrap().connect_timeout(CONNECT_TIMEOUT)).await;
        });
        return;
    }
    let ns = Ns::new();
    let inside: SocketAddr = "127.0.0.1:5353".parse().unwrap();
    let dnsmasq = Dnsmasq::builder().in_ns(&ns, inside).host("slow.test", &["127.0.0.1".parse().unwrap()]);
    let dnsmasq = dnsmasq.domain("test").start();
    let _relay = relay_udp(&ns, ns.udp("127.0.0.1:53"), dnsmasq.addr, DELAY);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("resolv.conf");
    std::fs::write(&file, "nameserver 127.0.0.1\noptions timeout:5 attempts:1\n").unwrap();
    let mut command = ns.command(std::env::current_exe().unwrap());
    command
        .args(["--exact", "connect_timeout::alone_the_timeout_does_not_limit_name_resolution", "--nocapture"])
        .env(IN_CHILD, "1");
    lab::put_file_over(&mut command, &file, "/etc/resolv.conf");
    let output = process::run(command, Duration::from_secs(60));
    assert!(output.status.success() && output.stdout.contains("1 passed"), "{output:?}");
}

/// The handshake of tonic's own TLS takes longer than the connect timeout.
#[tokio::test]
async fn alone_the_timeout_does_not_limit_tls_handshakes() {
    let (place, authority) = (ReservedPort::new(), Authority::new("tonic"));
    let leaf = authority.issue(&["greeter.test"]);
    let _server = place.serve_tls(leaf.server());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let _relay = relay_tcp(&Ns::here(), listener, place.addr(), DELAY);
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority.pem()));
    let endpoint = Endpoint::from_shared(url).unwrap().connect_timeout(CONNECT_TIMEOUT);
    assert_calls_succeed(&endpoint.tls_config(tls.domain_name("greeter.test")).unwrap()).await;
}

/// A firewall rule drops the SYN.
#[test]
fn an_unanswered_syn_is_recorded_as_a_timeout() {
    require_lab!();
    let ns = Ns::new();
    ns.nft(Hook::Input, "tcp dport 1 drop");
    let endpoint = Endpoint::from_static("http://127.0.0.1:1").connect_timeout(Duration::from_millis(200));
    let (untraced, traced, trace) = ns.block_on(async move {
        let sink = TraceSink::new();
        let kinds = async |lazy: tonic::Status, eager: tonic::transport::Error| {
            (lazy.code(), lazy.source().and_then(io_kind), io_kind(&eager))
        };
        let lazy = GreeterClient::new(endpoint.connect_lazy()).greet(Name::of("Ada")).await;
        let untraced = kinds(lazy.unwrap_err(), endpoint.connect().await.unwrap_err()).await;
        let (handle, request) = call(Name::of("Ada"));
        let lazy = GreeterClient::new(connect_lazy(&sink, endpoint.clone())).greet(request).await;
        let traced = kinds(lazy.unwrap_err(), connect(&sink, endpoint).await.unwrap_err()).await;
        let trace = closed(&sink).await;
        assert_timeout(&handle.trace());
        (untraced, traced, trace)
    });
    assert_eq!(untraced.1, Some(io::ErrorKind::TimedOut));
    assert_eq!(untraced, traced);
    assert_eq!(trace.dials.len(), 2);
    assert_timeout(&trace);
    check::finished(&trace);
}

/// Asserts that every dial, connection and call of the trace ended with a timeout.
#[track_caller]
fn assert_timeout(trace: &NetTrace) {
    let timed_out = (&Some(EndReason::Timeout), &Some(Failure::GenericTimeoutError));
    assert!(!trace.dials.is_empty() && !trace.tcp_conns.is_empty() && !trace.http_requests.is_empty());
    for dial in &trace.dials {
        assert_eq!((&dial.end_reason, &dial.failure), timed_out, "{dial:?}");
    }
    for conn in &trace.tcp_conns {
        assert_eq!((&conn.end_reason, &conn.failure), timed_out, "{conn:?}");
    }
    for request in &trace.http_requests {
        assert_eq!((&request.end_reason, &request.failure), timed_out, "{request:?}");
    }
}
