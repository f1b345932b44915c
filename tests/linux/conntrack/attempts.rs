//! Tests the entries of connection attempts that failed.

use std::net::SocketAddr;
use std::time::Duration;

use nettrace::connect::TcpConnector;
use nettrace::linux::ConntrackProblem;
use nettrace::record::{ConntrackStatus, Record};
use nettrace::resolve::StubResolver;
use tokio::time::timeout;

use super::listed::{from_port, list};
use super::{conn_to, entry, probed, refreshed, track};
use test_support::check;
use test_support::lab::{Delay, Hook, Routed};
use test_support::require::{require_lab, require_tool};

/// One attempt times out, one is cancelled, and one is rejected by an ICMP error.
#[test]
fn an_unanswered_syn_has_an_entry() {
    require_lab!();
    require_tool!("conntrack");
    // Without the delay, the ICMP error arrives before `connect` has returned.
    let net = Routed::with_delay(Delay::All(Duration::from_millis(1)));
    track(&net.client);
    net.server.nft(Hook::Input, "tcp dport 81 drop");
    net.server.nft(Hook::Input, "tcp dport 82 reject with icmpx host-unreachable");
    for ip in Routed::SERVER.ips() {
        net.client.block_on(async {
            let (probe, sink) = probed();
            let connector = TcpConnector::new(&sink).handshake_timeout(Duration::from_millis(50));
            connector.connect(SocketAddr::new(ip, 81)).await.unwrap_err();
            let without_timeout = TcpConnector::new(&sink);
            let cancelled =
                timeout(Duration::from_millis(50), without_timeout.connect(SocketAddr::new(ip, 81)));
            cancelled.await.unwrap_err();
            without_timeout.connect(SocketAddr::new(ip, 82)).await.unwrap_err();

            let trace = refreshed(&sink).await;
            let listed = list(&net.client, if ip.is_ipv4() { "-p tcp" } else { "-f ipv6 -p tcp" });
            let reasons = trace.tcp_conns.iter().map(|conn| conn.end_reason.as_ref().unwrap().as_str());
            assert_eq!(reasons.collect::<Vec<_>>(), ["timeout", "cancelled", "failed"]);
            for conn in &trace.tcp_conns {
                let entry = entry(conn);
                from_port(&listed, conn.addr_tuple.src_port).assert_is(entry);
                assert_eq!(entry.addr_orig, conn.addr_tuple);
                assert_eq!((entry.tcp_state.as_str(), entry.packets_recv), ("syn-sent", 0));
                assert!(!entry.status.contains(ConntrackStatus::SEEN_REPLY), "{}", entry.status);
            }
            assert_eq!(probe.problems(), []);
            check::finished(&trace);
        });
    }
}

/// The kernel deletes the entry as soon as the reset arrives. The probe does not report that as a problem.
#[test]
fn a_refused_syn_has_no_entry() {
    require_lab!();
    require_tool!("conntrack");
    let net = Routed::new();
    track(&net.client);
    net.client.block_on(async {
        let (probe, sink) = probed();
        TcpConnector::new(&sink).connect("10.9.2.2:81").await.unwrap_err();
        let trace = refreshed(&sink).await;
        assert!(conn_to(&trace, 81).conntrack.is_none());
        assert!(conn_to(&trace, 81).addr_tuple.src_port > 0, "the probe knew its addresses");
        assert_eq!(list(&net.client, "-p tcp"), []);
        assert_eq!(probe.problems(), []);
    });
}

#[test]
fn a_failed_attempt_is_enough_to_report_that_connections_are_not_tracked() {
    require_lab!();
    let net = Routed::new();
    net.server.nft(Hook::Input, "tcp dport 81 drop");
    net.client.block_on(async {
        let (probe, sink) = probed();
        let connector = TcpConnector::new(&sink).handshake_timeout(Duration::from_millis(50));
        connector.connect("10.9.2.2:81").await.unwrap_err();
        assert!(conn_to(&refreshed(&sink).await, 81).conntrack.is_none());
        assert_eq!(probe.problems(), [ConntrackProblem::NotTracked]);
    });
}

/// The nameservers are queried over UDP and over TCP.
#[test]
fn queries_to_silent_nameservers_have_entries() {
    require_lab!();
    require_tool!("conntrack");
    let net = Routed::new();
    track(&net.client);
    net.server.nft(Hook::Input, "meta l4proto { tcp, udp } th dport 53 drop");
    net.client.block_on(async {
        let (probe, sink) = probed();
        let resolver = |use_vc| {
            let servers = Routed::SERVER.ips().map(|ip| SocketAddr::new(ip, 53));
            let builder =
                StubResolver::builder(&sink).nameservers(servers).hosts_file(None).resolv_conf(None);
            let builder = builder.timeout(Duration::from_millis(50)).attempts(1).use_vc(use_vc);
            builder.build().unwrap()
        };
        for use_vc in [false, true] {
            resolver(use_vc).lookup("web.test").await.unwrap_err();
        }
        let without_timeout =
            StubResolver::builder(&sink).nameservers([SocketAddr::from((Routed::SERVER.v4, 53))]);
        let without_timeout =
            without_timeout.hosts_file(None).resolv_conf(None).use_vc(true).build().unwrap();
        timeout(Duration::from_millis(50), without_timeout.lookup("web.test")).await.unwrap_err();

        let trace = refreshed(&sink).await;
        let listed = [list(&net.client, "-f ipv4"), list(&net.client, "-f ipv6")].concat();
        assert_eq!(trace.udp_conns.len(), 4, "two servers, queried for both address types");
        assert_eq!(trace.tcp_conns.len(), 6, "and two that were cancelled");
        for conn in &trace.udp_conns {
            let entry = conn.conntrack.as_deref().expect("an entry");
            from_port(&listed, conn.addr_tuple.src_port).assert_is(entry);
            assert_eq!((entry.packets_sent, entry.packets_recv), (1, 0));
        }
        for conn in &trace.tcp_conns {
            from_port(&listed, conn.addr_tuple.src_port).assert_is(entry(conn));
            assert_eq!(entry(conn).tcp_state.as_str(), "syn-sent", "{}", conn.trace_id());
        }
        assert_eq!(probe.problems(), []);
        check::finished(&trace);
    });
}

/// An attempt that sent no packet has no entry, which is not reported as a problem.
#[test]
fn an_attempt_without_a_packet_has_no_entry() {
    require_lab!();
    let net = Routed::new();
    track(&net.client);
    net.client.unreachable("10.8.0.0/24");
    let _server = super::server(&net, Routed::SERVER.v4.into());
    net.client.block_on(async {
        let (probe, sink) = probed();
        let connector = TcpConnector::new(&sink);
        let stream = connector.connect("10.9.2.2:80").await.unwrap();
        connector.connect(SocketAddr::from(([10, 8, 0, 1], 81))).await.unwrap_err();
        let trace = refreshed(&sink).await;
        assert!(conn_to(&trace, 81).conntrack.is_none());
        assert!(conn_to(&trace, 80).conntrack.is_some());
        assert_eq!(probe.problems(), []);
        drop(stream);
    });
}
