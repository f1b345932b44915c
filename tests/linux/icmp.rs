//! Tests that the router or host whose ICMP error rejected a handshake is recorded.

use std::error::Error;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nettrace::client::Client;
use nettrace::connect::{ConnectError, TcpConnector};
use nettrace::linux::TcpInfoProbe;
use nettrace::record::{IcmpError, TcpInfoEvent};
use nettrace::resolve::StubResolver;
use nettrace::{ConnRef, Probe, ProbeEvent, ProbeSocket, TraceSink};
use tokio::net::TcpStream;

use crate::drawn;
use test_support::check;
use test_support::lab::{Delay, Hook, Ns, Routed, Site};
use test_support::require::{require_lab, skip};

/// Returns a network whose delay makes errors arrive after `connect` has returned, also on a busy machine: the kernel
/// treats earlier ones differently.
fn net() -> Routed {
    Routed::with_delay(Delay::All(Duration::from_millis(25)))
}

fn sink() -> TraceSink {
    TraceSink::builder().probe(TcpInfoProbe::new()).build()
}

/// Connects to `addr` with the probe and without tracing, asserts that both fail with the same error, and returns it.
fn connect_error(client: &Ns, sink: &TraceSink, addr: SocketAddr) -> ConnectError {
    let (error, untraced) = client.block_on(async {
        let error = TcpConnector::new(sink).connect(addr).await.expect_err("no connection");
        (error, TcpStream::connect(addr).await.expect_err("no connection"))
    });
    let [attempt] = error.attempts() else { panic!("one attempt: {error:?}") };
    assert_eq!(attempt.error.raw_os_error(), untraced.raw_os_error(), "{addr}");
    let source = error
        .source()
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .expect("an I/O error as the source");
    assert_eq!((source.kind(), source.to_string()), (untraced.kind(), untraced.to_string()));
    error
}

fn icmp_error_text(error: &ConnectError) -> Option<String> {
    error.attempts()[0].icmp_error.as_ref().map(|icmp| icmp.to_string())
}

#[test]
fn every_icmp_error_names_its_origin() {
    require_lab!();
    let net = net();
    net.router.nft(Hook::Forward, "tcp dport 2 reject with icmpx port-unreachable");
    net.router.nft(Hook::Forward, "tcp dport 3 reject with icmpx host-unreachable");
    net.router.nft(Hook::Forward, "tcp dport 4 reject with icmpx no-route");
    net.router.nft(Hook::Forward, "tcp dport 5 reject with icmpx admin-prohibited");
    net.server.nft(Hook::Input, "tcp dport 6 reject with icmpx port-unreachable");
    net.router.unreachable("10.8.2.0/24");
    net.router.unreachable("fd08:2::/64");
    let (router, server) = (Routed::ROUTER_TO_CLIENT, Routed::SERVER);
    let at_server = |port| move |v6| SocketAddr::new(ip_of(server, v6), port);
    let in_network = |network: u8| {
        move |v6| {
            let v4 = IpAddr::from([10, 8, network, 1]);
            SocketAddr::new(
                if v6 { Ipv6Addr::new(0xfd08, network.into(), 0, 0, 0, 0, 0, 1).into() } else { v4 },
                80,
            )
        }
    };
    type Target<'a> = &'a dyn Fn(bool) -> SocketAddr;
    type Expected = (&'static str, u8, u8);
    let cases: [(Target<'_>, Site, [Expected; 2]); 7] = [
        (&at_server(2), router, [("port unreachable", 3, 3), ("port unreachable", 1, 4)]),
        (&at_server(3), router, [("host unreachable", 3, 1), ("address unreachable", 1, 3)]),
        (&at_server(4), router, [("network unreachable", 3, 0), ("no route to destination", 1, 0)]),
        (&at_server(5), router, [(PROHIBITED, 3, 13), (PROHIBITED, 1, 1)]),
        (&at_server(6), server, [("port unreachable", 3, 3), ("port unreachable", 1, 4)]),
        (&in_network(1), router, [("network unreachable", 3, 0), ("no route to destination", 1, 0)]),
        (&in_network(2), router, [("host unreachable", 3, 1), ("no route to destination", 1, 0)]),
    ];
    const PROHIBITED: &str = "communication administratively prohibited";
    for (target, origin, meanings) in cases {
        for (v6, (meaning, icmp_type, code)) in [false, true].into_iter().zip(meanings) {
            let (addr, origin, sink) = (target(v6), ip_of(origin, v6), sink());
            let error = connect_error(&net.client, &sink, addr);
            let protocol = if v6 { "ICMPv6" } else { "ICMP" };
            let text = format!("{meaning} ({protocol} type {icmp_type} code {code}) said by {origin}");
            assert_eq!(icmp_error_text(&error), Some(text.clone()), "{addr}");
            assert_eq!(error.to_string(), format!("cannot connect to {addr}: {text}"));

            let trace = sink.snapshot("all");
            check::finished(&trace);
            let (dial, conn) = (&trace.dials[0], &trace.tcp_conns[0]);
            let io = &error.attempts()[0].error;
            assert_eq!(conn.handshake_err, format!("{text}: {io}"));
            assert_eq!(dial.dial_err, format!("cannot connect to {addr}: {text}: {io}"));
            assert_eq!((&conn.failure, &dial.failure), (&Some(error.failure()), &Some(error.failure())));
            let json = serde_json::to_value(conn.icmp_error.as_deref().expect("an ICMP error")).unwrap();
            let expected = serde_json::json!({"origin": origin.to_string(), "type": icmp_type, "code": code});
            assert_eq!(json, expected);
            assert_eq!(conn.tcp_info[0].event, TcpInfoEvent::ConnectFailed);
        }
    }

    // Neither a reset nor an error of the client's own host is an ICMP error.
    for addr in Routed::SERVER.ips().map(|ip| SocketAddr::new(ip, 7)) {
        let error = connect_error(&net.client, &sink(), addr);
        assert_eq!(
            (error.attempts()[0].error.kind(), icmp_error_text(&error)),
            (ErrorKind::ConnectionRefused, None)
        );
    }
    let isolated = Ns::new();
    for addr in ["10.8.0.1:80", "[fd08::1]:80"].map(|addr| addr.parse().unwrap()) {
        let error = connect_error(&isolated, &sink(), addr);
        assert_eq!(
            (error.attempts()[0].error.kind(), icmp_error_text(&error)),
            (ErrorKind::NetworkUnreachable, None)
        );
    }
}

fn ip_of(site: Site, v6: bool) -> IpAddr {
    site.ips()[usize::from(v6)]
}

/// Over IPv6 the kernel ignores an error that arrives during `connect`; only the error for the second SYN counts.
#[test]
fn the_probe_does_not_change_which_error_fails_a_handshake() {
    require_lab!();
    let net = Routed::new();
    net.router.nft(Hook::Forward, "tcp dport 3 reject with icmpx host-unreachable");
    let [v4, v6] = Routed::SERVER.ips().map(|ip| SocketAddr::new(ip, 3));
    let sink = sink();
    assert!(
        icmp_error_text(&connect_error(&net.client, &sink, v4))
            .expect("an ICMP error")
            .ends_with("said by 10.9.1.1")
    );
    assert!(
        icmp_error_text(&connect_error(&net.client, &sink, v6))
            .expect("an ICMP error")
            .ends_with("said by fd09:1::1")
    );
    let trace = sink.snapshot("all");
    let retransmissions = trace.tcp_conns.iter().map(|conn| conn.tcp_info[0].total_retrans.unwrap());
    assert_eq!(retransmissions.collect::<Vec<_>>(), [0, 1]);
}

/// The message names the origin once for each address. The errors among its sources are unchanged.
#[test]
fn the_error_of_a_request_names_the_origin() {
    require_lab!();
    let net = net();
    net.router.nft(Hook::Forward, "tcp dport 3 reject with icmpx host-unreachable");
    let sink = sink();
    let error = net.client.block_on(async {
        let client = Client::builder(&sink).build().expect("a client");
        client.get("http://10.9.2.2:3/").await.expect_err("the router rejects it")
    });
    let text = "host unreachable (ICMP type 3 code 1) said by 10.9.1.1: No route to host (os error 113)";
    let trace = error.request().trace();
    assert_eq!(trace.http_requests[0].req_error.matches(text).count(), 1, "{trace:#?}");
    let drawn = drawn(&trace);
    assert_eq!(drawn.matches(text).count(), 1, "{drawn}");

    let error = net.client.block_on(async {
        let addrs = ["10.9.2.2:3", "[fd09:2::2]:3"].map(|addr| addr.parse::<SocketAddr>().unwrap());
        let resolver = tower::service_fn(move |_: hyper_util::client::legacy::connect::dns::Name| {
            std::future::ready(Ok::<_, std::io::Error>(addrs.into_iter()))
        });
        TcpConnector::new(&sink)
            .resolver(resolver)
            .connect("two.test:3")
            .await
            .expect_err("the router rejects it")
    });
    assert_eq!(
        error.to_string(),
        "cannot connect to two.test:3 (10.9.2.2:3: host unreachable (ICMP type 3 code 1) said by 10.9.1.1: \
         No route to host (os error 113), [fd09:2::2]:3: address unreachable (ICMPv6 type 1 code 3) said by fd09:1::1)"
    );
}

#[test]
fn an_icmp_error_for_a_nameserver_over_tcp_names_its_origin() {
    require_lab!();
    let net = net();
    net.router.nft(Hook::Forward, "tcp dport 53 reject with icmpx admin-prohibited");
    let sink = sink();
    net.client.block_on(async {
        let resolver = StubResolver::builder(&sink)
            .nameservers(["10.9.2.2".parse::<nettrace::resolve::Nameserver>().unwrap()])
            .hosts_file(None);
        let resolver = resolver.use_vc(true).single_request(true).attempts(1).build().expect("a resolver");
        resolver.lookup("some.test").await.expect_err("the router rejects the queries");
    });
    let trace = sink.snapshot("all");
    check::finished(&trace);
    assert!(!trace.tcp_conns.is_empty());
    for conn in &trace.tcp_conns {
        assert!(conn.from_resolver && conn.icmp_error.as_ref().is_some_and(|icmp| icmp.origin == "10.9.1.1"));
    }
}

/// A probe that records at every event whether the kernel queues errors for the socket (`IPV6_RECVERR`).
#[derive(Clone, Default)]
struct RecvErrProbe(Arc<Mutex<Vec<(&'static str, i32)>>>);

impl RecvErrProbe {
    fn record(&self, when: &'static str, socket: ProbeSocket<'_>) {
        let mut on = [0u8; 4];
        uapi::getsockopt(socket.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVERR, &mut on[..]).unwrap();
        self.0.lock().unwrap().push((when, i32::from_ne_bytes(on)));
    }
}

impl Probe for RecvErrProbe {
    fn before_connect(&self, socket: ProbeSocket<'_>, _: SocketAddr) {
        self.record("before", socket);
    }

    fn connecting(&self, socket: ProbeSocket<'_>, _: SocketAddr) {
        self.record("connecting", socket);
    }

    fn event(&self, conn: &ConnRef, event: ProbeEvent, socket: ProbeSocket<'_>) {
        if event == ProbeEvent::Connected {
            self.record("connected", socket);
            conn.icmp_error(IcmpError::default()); // ignored: an established connection has no error
        }
    }
}

#[tokio::test]
async fn the_kernel_queues_errors_during_the_handshake_only() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return skip(file!(), line!(), "no IPv6 on this machine");
    };
    let addr = listener.local_addr().unwrap();
    let with = TraceSink::builder().probe(TcpInfoProbe::new());
    let off = TraceSink::builder().probe(TcpInfoProbe::new().icmp_errors(false));
    for (builder, connecting) in [(with, 1), (off, 0), (TraceSink::builder(), 0)] {
        let watch = RecvErrProbe::default();
        let sink = builder.probe(watch.clone()).build();
        drop(TcpConnector::new(&sink).connect(addr).await.unwrap());
        let seen = watch.0.lock().unwrap().clone();
        assert_eq!(seen, [("before", 0), ("connecting", connecting), ("connected", 0)]);
        let trace = sink.snapshot("all");
        check::finished(&trace);
        assert_eq!(trace.tcp_conns[0].icmp_error, None);
    }
}
