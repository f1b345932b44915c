//! Packets of a connection on both sides of a NAT.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nettrace::capture::{CaptureProbe, PacketCapture};
use nettrace::linux::ConntrackProbe;
use nettrace::record::{AddrTuple, NetTrace};
use nettrace::{Client, TraceSink};

use super::tcpdump::{Tcpdump, assert_same};
use super::{fetch, nameserver, of_trace, server};
use test_support::lab::{Ns, Routed};
use test_support::require::{require_lab, require_tool};

const SNAP: u32 = 1518;

/// Returns a tcpdump filter for the connections of a trace, by the translated addresses that conntrack has for them.
fn translated_filter(trace: &NetTrace) -> String {
    let mut translated = NetTrace::default();
    for mut conn in trace.tcp_conns.clone().into_vec() {
        conn.addr_tuple = reversed(&conn.conntrack.as_deref().expect("an entry").addr_reply);
        translated.tcp_conns.push(conn);
    }
    for mut conn in trace.udp_conns.clone().into_vec() {
        conn.addr_tuple = reversed(&conn.conntrack.as_deref().expect("an entry").addr_reply);
        translated.udp_conns.push(conn);
    }
    of_trace(&translated)
}

/// Returns the tuple with source and destination swapped. From the addresses of replies, these are the translated ones.
fn reversed(tuple: &AddrTuple) -> AddrTuple {
    let addr = |ip: &str, port| SocketAddr::new(ip.parse().expect("an address"), port);
    AddrTuple::new(addr(&tuple.dst_ip, tuple.dst_port), addr(&tuple.src_ip, tuple.src_port))
}

/// Makes a traced request to `url` between two untraced ones, through the NAT of `host`. Returns trace and sink.
fn request(
    net: &Routed,
    host: &Ns,
    ip: IpAddr,
    url: &str,
    source: Option<IpAddr>,
    capture: &CaptureProbe,
) -> (NetTrace, TraceSink) {
    assert_eq!(capture.problems(), []);
    let (web, names) = (server(&net.server, SocketAddr::new(ip, 80)), nameserver(&net.server, ip));
    host.sysctl("net/netfilter/nf_conntrack_acct", "1");
    host.sysctl("net/netfilter/nf_conntrack_timestamp", "1");
    let conntrack = host.run(ConntrackProbe::new);
    let sink = TraceSink::builder().probe(conntrack.clone()).probe(capture.clone()).build();
    let trace = net.client.block_on(async {
        let client =
            |sink| Client::builder(sink).nameservers([names.addr]).source_ip(source).build().unwrap();
        let (traced, untraced) = (client(&sink), client(&TraceSink::disabled()));
        for client in [&untraced, &traced, &untraced] {
            assert_eq!(fetch(client, url).await, b"hello");
        }
        sink.refresh().await;
        let trace = sink.snapshot("before the end");
        traced.close().await;
        untraced.close().await;
        trace
    });
    assert_eq!(conntrack.problems(), []);
    web.ended_blocking(2);
    (trace, sink)
}

fn capture(ns: &Ns, interfaces: &'static [&'static str]) -> CaptureProbe {
    ns.run(|| {
        CaptureProbe::builder(interfaces.iter().copied()).pending_timeout(Duration::from_secs(60)).start()
    })
}

/// Returns the capture on `interface`.
fn capture_on(captures: &[PacketCapture], interface: &str) -> PacketCapture {
    let found = captures.iter().find(|capture| capture.interface_name == interface);
    found.expect("a capture on the interface").clone()
}

/// Asserts that each connection has as many packets on one side of the NAT as on the other.
fn assert_balanced(one: &PacketCapture, other: &PacketCapture, trace: &NetTrace) {
    let count =
        |capture: &PacketCapture, id| capture.packets.iter().filter(|packet| packet.connection == id).count();
    let tcp = trace.tcp_conns.iter().map(|conn| &conn.trace_id);
    let ids: Vec<_> = tcp.chain(trace.udp_conns.iter().map(|conn| &conn.trace_id)).collect();
    assert_eq!(ids.len(), 3, "a TCP connection, and a query for each address family");
    for id in ids {
        assert_eq!(count(one, id.clone()), count(other, id.clone()));
        assert!(count(one, id.clone()) >= 2);
    }
}

#[test]
fn packets_on_both_sides_of_a_router_are_kept() {
    require_lab!();
    require_tool!("tcpdump", "dnsmasq");
    let net = Routed::new();
    net.router.masquerade("r1");
    for (ip, marks) in Routed::SERVER
        .ips()
        .into_iter()
        .zip([["10.9.1.2:9", "10.9.2.2:9"], ["[fd09:1::2]:9", "[fd09:2::2]:9"]])
    {
        let tcpdumps = ["r0", "r1"].map(|interface| Tcpdump::start(&net.router, interface, SNAP));
        let probe = capture(&net.router, &["r0", "r1"]);
        let (trace, sink) = request(&net, &net.router, ip, "http://web.test/", None, &probe);
        let inside = tcpdumps[0].packets(marks[0], &of_trace(&trace));
        let outside = tcpdumps[1].packets(marks[1], &translated_filter(&trace));
        let captures = sink.captures();
        let (r0, r1) = (capture_on(&captures, "r0"), capture_on(&captures, "r1"));
        assert_same(&r0, inside);
        assert_same(&r1, outside);
        assert_balanced(&r0, &r1, &trace);
    }
}

/// The interface sees only translated packets, even of the first SYN and the first DNS query.
#[test]
fn packets_that_the_host_itself_translates_are_kept() {
    require_lab!();
    require_tool!("tcpdump", "dnsmasq");
    let net = Routed::new();
    net.client.masquerade("c0");
    net.client.sh("ip address add 10.99.0.1/32 dev lo; ip address add fd99::1/128 dev lo nodad");
    let sources = ["10.99.0.1", "fd99::1"].map(|ip| ip.parse::<IpAddr>().unwrap());
    let marks = ["10.9.2.2:9", "[fd09:2::2]:9"];
    for ((ip, mark), source) in Routed::SERVER.ips().into_iter().zip(marks).zip(sources) {
        let tcpdump = Tcpdump::start(&net.client, "c0", SNAP);
        let probe = capture(&net.client, &["c0"]);
        let (trace, sink) = request(&net, &net.client, ip, "http://web.test/", Some(source), &probe);
        let outside = tcpdump.packets(mark, &translated_filter(&trace));
        let captured = capture_on(&sink.captures(), "c0");
        assert_same(&captured, outside);
        let first = captured.packets.iter().filter(|packet| packet.connection == trace.tcp_conns[0].trace_id);
        let (syn, flags_offset) =
            (first.map(|packet| &packet.data).next().unwrap(), if ip.is_ipv4() { 47 } else { 67 });
        assert_eq!(syn[flags_offset], 0x02, "SYN");
    }
}

/// The translated addresses come from the last query of the `conntrack` probe, whichever probe is closed first.
#[test]
fn closing_before_the_first_conntrack_query_loses_no_packets() {
    require_lab!();
    let net = Routed::new();
    net.client.masquerade("c0");
    net.client.sh("ip address add 10.99.0.1/32 dev lo");
    let _web = server(&net.server, SocketAddr::new(Routed::SERVER.v4.into(), 80));
    for conntrack_first in [true, false] {
        let capture = capture(&net.client, &["c0"]);
        let conntrack = net.client.run(ConntrackProbe::new);
        let builder = TraceSink::builder();
        let sink = match conntrack_first {
            true => builder.probe(conntrack).probe(capture),
            false => builder.probe(capture).probe(conntrack),
        }
        .build();
        net.client.block_on(async {
            let source = Some("10.99.0.1".parse().unwrap());
            let client = super::client(&sink).source_ip(source).build().unwrap();
            fetch(&client, "http://10.9.2.2/").await;
            sink.close();
        });
        let captured = capture_on(&sink.captures(), "c0");
        let trace = sink.snapshot("closed");
        let id = &trace.tcp_conns[0].trace_id;
        assert!(captured.packets.len() >= 5, "conntrack first: {conntrack_first}, {captured:#?} {trace:#?}");
        assert!(captured.packets.iter().all(|packet| packet.connection == *id && packet.data[26] == 10));
        assert_eq!(captured.packets[0].data[47], 0x02, "SYN");
    }
}

#[test]
fn packets_with_both_addresses_translated_are_kept() {
    require_lab!();
    require_tool!("tcpdump", "dnsmasq");
    let net = Routed::new();
    net.client.masquerade("c0");
    net.client.sh("ip address add 10.99.0.1/32 dev lo
         nft 'add chain inet nat out { type nat hook output priority -100; }
              add rule inet nat out ip daddr 10.77.0.1 tcp dport 8080 dnat ip to 10.9.2.2:80'");
    let tcpdump = Tcpdump::start(&net.client, "c0", SNAP);
    let probe = capture(&net.client, &["c0"]);
    let (source, ip) = ("10.99.0.1".parse().unwrap(), Routed::SERVER.v4.into());
    let (trace, sink) = request(&net, &net.client, ip, "http://10.77.0.1:8080/", Some(source), &probe);
    let captured = capture_on(&sink.captures(), "c0");
    assert_same(&captured, tcpdump.packets("10.9.2.2:9", &translated_filter(&trace)));
    assert!(captured.packets.len() >= 9);
    assert!(captured.packets.iter().all(|packet| packet.connection == trace.tcp_conns[0].trace_id));
}
