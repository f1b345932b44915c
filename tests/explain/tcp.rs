//! Connections that cannot be made.

use crate::{assert_nothing, client, quoted, root, trace_of};
use hyper_util::client::legacy::connect::dns::Name;
use nettrace::{
    NetTrace, TraceSink,
    connect::TcpConnector,
    explain::{Finding, Severity},
    linux::{ConntrackProbe, TcpInfoProbe},
    resolve::StubResolver,
};
use std::{
    future::ready,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use test_support::{
    dns::DnsServer,
    lab::{Delay, Hook, Ns, Pair, Routed},
    raw::{Refused, Server},
    require::require_lab,
};

const LIMIT: Duration = Duration::from_millis(50);
const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// Returns a sink with the probe that reads `TCP_INFO` and ICMP errors.
fn probed() -> TraceSink {
    TraceSink::builder().probe(TcpInfoProbe::new()).build()
}

/// Returns a network in which a round trip takes 2 ms. Without it, ICMP errors arrive during `connect`.
fn routed() -> Routed {
    Routed::with_delay(Delay::All(Duration::from_millis(1)))
}

/// The time limit for handshakes that are rejected: one that a busy machine does not reach.
const REJECTED: Duration = Duration::from_secs(10);

/// Requests a URL from the namespace, with a short time limit for handshakes.
fn requested(ns: &Ns, sink: &TraceSink, url: &str) -> NetTrace {
    requested_within(LIMIT, ns, sink, url)
}

/// Requests a URL from the namespace, with a time limit for handshakes.
fn requested_within(limit: Duration, ns: &Ns, sink: &TraceSink, url: &str) -> NetTrace {
    ns.block_on(async {
        let client = client(sink).tcp_handshake_timeout(limit).build().unwrap();
        trace_of(sink, &client, url).await
    })
}

#[tokio::test]
async fn a_port_that_nothing_listens_on() {
    let (sink, refused) = (TraceSink::new(), Refused::on("127.0.0.1:0"));
    let client = client(&sink).build().unwrap();
    let trace = trace_of(&sink, &client, &format!("http://{}/", refused.addr)).await;
    let root = root(&trace, "tcp_refused");
    assert_eq!(root.about, refused.addr.to_string());
    assert_eq!(root.evidence[0].record, trace.tcp_conns[0].trace_id);
}

#[tokio::test]
async fn an_error_and_its_request_say_why() {
    let (sink, refused) = (TraceSink::new(), Refused::on("127.0.0.1:0"));
    let client = client(&sink).build().unwrap();
    let error = client.get(format!("http://{}/", refused.addr)).await.unwrap_err();
    let verdict = error.explain().expect("a verdict");
    assert_eq!(verdict.root().unwrap().code, "tcp_refused");
    assert_eq!(error.request().explain(), Some(verdict));
    assert_eq!(nettrace::RequestHandle::new().explain(), None);
}

#[tokio::test]
async fn all_addresses_refuse() {
    let first = Refused::on("127.0.0.1:0");
    let port = first.addr.port();
    let _second = Refused::on(&format!("127.0.0.2:{port}"));
    let (sink, dns) = (TraceSink::new(), DnsServer::answering(&["127.0.0.1", "127.0.0.2"]).await);
    let client = client(&sink).nameservers([dns.addr()]).build().unwrap();
    let root = root(&trace_of(&sink, &client, &format!("http://web.test:{port}/")).await, "tcp_refused");
    assert_eq!(root.about, format!("127.0.0.1:{port} and 127.0.0.2:{port}"));
    let quoted = root.evidence.iter().filter(|evidence| evidence.value == "connection_refused");
    assert_eq!(quoted.count(), 2);
}

/// The attempt that was refused cost a round trip of 30 ms.
#[test]
fn the_first_address_refuses() {
    require_lab!();
    let net = Routed::with_delay(Delay::All(Duration::from_millis(15)));
    net.server.address("s0", "10.9.2.3/24");
    let _server = Server::on(net.server.listen("10.9.2.3:80"), answer);
    let trace = net.client.block_on(async {
        let (sink, dns) = (probed(), DnsServer::answering(&["10.9.2.2", "10.9.2.3"]).await);
        let client = client(&sink).nameservers([dns.addr()]).build().unwrap();
        trace_of(&sink, &client, "http://web.test/").await
    });
    let root = root(&trace, "tcp_refused");
    assert_eq!((root.about.as_str(), root.severity), ("10.9.2.2:80", Severity::Degraded));
    assert!(root.sentence.contains("10.9.2.3:80 had to be tried"), "{}", root.sentence);
}

async fn answer(mut conn: test_support::raw::Conn) -> io::Result<()> {
    loop {
        conn.read_head().await?;
        conn.write(HELLO).await?;
    }
}

#[test]
fn nothing_answers() {
    require_lab!();
    let net = Pair::new();
    net.client.nft(Hook::Output, "ct state new");
    net.server.nft(Hook::Input, "tcp dport 80 drop");
    let url = "http://10.9.0.2/";
    let found = root(&requested(&net.client, &TraceSink::new(), url), "tcp_filtered");
    assert_eq!((found.about.as_str(), quoted(&found, "endReason")), ("10.9.0.2:80", "timeout"));
    assert_eq!(found.not_seen.len(), 2, "{found}");

    // The time limit of the request runs out.
    let found = net.client.block_on(async {
        let sink = TraceSink::builder().probe(TcpInfoProbe::new()).probe(ConntrackProbe::new()).build();
        let client = client(&sink).timeout(LIMIT).build().unwrap();
        trace_of(&sink, &client, url).await;
        sink.refresh().await;
        root(&sink.snapshot(""), "tcp_filtered")
    });
    assert_eq!((quoted(&found, "endReason"), quoted(&found, "tcpInfo.totalRetrans")), ("cancelled", "0"));
    assert_eq!((quoted(&found, "conntrack.packetsRecv"), found.not_seen.len()), ("0", 0));
}

/// The lookup has used up most of the time limit, so that little of it was left for the handshake.
#[test]
fn nothing_answers_in_the_little_time_that_is_left() {
    require_lab!();
    let net = Pair::new();
    net.server.nft(Hook::Input, "tcp dport 80 drop");
    let (trace, dead) = net.client.block_on(async {
        let (dead, alive) = (DnsServer::silent().await, DnsServer::answering(&["10.9.0.2"]).await);
        let sink = TraceSink::new();
        let resolver =
            StubResolver::builder(&sink).nameservers([dead.addr(), alive.addr()]).timeout(LIMIT * 8);
        let resolver = resolver.hosts_file(None).resolv_conf(None).build().unwrap();
        let client = client(&sink).resolver(resolver).timeout(LIMIT * 10).build().unwrap();
        (trace_of(&sink, &client, "http://web.test/").await, dead.addr())
    });
    assert_eq!(root(&trace, "dns_first_server_dead").about, dead.to_string());
}

/// A handshake usually takes 80 ms. The program gives one up after 50 ms.
#[test]
fn a_handshake_that_the_program_gives_up() {
    require_lab!();
    let net = Routed::with_delay(Delay::All(Duration::from_millis(40)));
    let _server = Server::on(net.server.listen("10.9.2.2:80"), answer);
    net.client.block_on(async {
        let sink = TraceSink::new();
        let client = client(&sink).keep_alive(false).build().unwrap();
        trace_of(&sink, &client, "http://10.9.2.2/").await;
        let client = crate::client(&sink).build().unwrap();
        assert!(tokio::time::timeout(LIMIT, client.get("http://10.9.2.2/")).await.is_err());
        client.close().await;
        root(&sink.snapshot(""), "caller_gave_up");
    });
}

#[test]
fn a_router_forbids_it() {
    require_lab!();
    // Over IPv6 only an error that comes after `connect` has returned is kept, also on a busy machine.
    let net = Routed::with_delay(Delay::All(Duration::from_millis(25)));
    let requested = |sink: &TraceSink, url| requested_within(REJECTED, &net.client, sink, url);
    net.router.nft(Hook::Forward, "tcp dport 81 reject with icmpx admin-prohibited");
    net.router.nft(Hook::Forward, "tcp dport 82 reject with icmpx port-unreachable");
    net.server.nft(Hook::Input, "tcp dport 83 reject with icmpx admin-prohibited");
    for (url, about, who) in [
        ("http://10.9.2.2:81/", "10.9.2.2:81", "The router 10.9.1.1 rejects"),
        ("http://10.9.2.2:82/", "10.9.2.2:82", "The router 10.9.1.1 rejects"),
        ("http://10.9.2.2:83/", "10.9.2.2:83", "The host 10.9.2.2 rejects"),
        ("http://[fd09:2::2]:81/", "[fd09:2::2]:81", "The router fd09:1::1 rejects"),
        ("http://[fd09:2::2]:82/", "[fd09:2::2]:82", "The router fd09:1::1 rejects"),
    ] {
        let root = root(&requested(&probed(), url), "tcp_forbidden");
        assert_eq!(root.about, about);
        assert!(root.sentence.starts_with(who), "{}", root.sentence);
        assert!(quoted(&root, "icmpError").contains(" said by "), "{root}");
    }
    let unseen = root(&requested(&TraceSink::new(), "http://[fd09:2::2]:81/"), "tcp_forbidden");
    assert!(unseen.not_seen[0].ends_with("TcpInfoProbe was off"), "{unseen}");
}

#[test]
fn this_host_forbids_it() {
    require_lab!();
    let isolated = Ns::new();
    isolated.prohibit("10.8.3.0/24");
    let root = root(&requested(&isolated, &TraceSink::new(), "http://10.8.3.1/"), "tcp_forbidden");
    assert!(root.sentence.starts_with("This host forbids connections to 10.8.3.1:80"), "{}", root.sentence);
}

#[test]
fn this_host_has_no_route() {
    require_lab!();
    let isolated = Ns::new();
    isolated.unreachable("10.8.2.0/24");
    isolated.blackhole("10.8.3.0/24");
    for (url, about, failure) in [
        ("http://10.8.1.1/", "10.8.1.1:80", "network_unreachable"),
        ("http://10.8.2.1/", "10.8.2.1:80", "host_unreachable"),
        ("http://10.8.3.1/", "10.8.3.1:80", "unknown_failure: Invalid argument (os error 22)"),
        ("http://[fd08::1]/", "[fd08::1]:80", "network_unreachable"),
    ] {
        for sink in [TraceSink::new(), probed()] {
            let root = root(&requested(&isolated, &sink, url), "tcp_no_route");
            assert_eq!((root.about.as_str(), quoted(&root, "failure")), (about, failure));
            assert_eq!(quoted(&root, "addrTuple.srcPort"), "0");
        }
    }
}

#[test]
fn a_router_has_no_route() {
    require_lab!();
    let net = routed();
    let requested = |sink: &TraceSink, url| requested_within(REJECTED, &net.client, sink, url);
    net.router.unreachable("10.8.2.0/24");
    for (url, meaning) in
        [("http://10.8.1.1/", "network unreachable"), ("http://10.8.2.1/", "host unreachable")]
    {
        let found = root(&requested(&probed(), url), "tcp_host_unreachable");
        assert!(
            found.sentence.contains("The router 10.9.1.1 cannot reach") && found.sentence.contains(meaning)
        );
        assert!(quoted(&found, "icmpError").contains(meaning), "{found}");
        let unseen = root(&requested(&TraceSink::new(), url), "tcp_host_unreachable");
        assert!(unseen.not_seen[0].ends_with("TcpInfoProbe was off"), "{unseen}");
    }
}

#[test]
fn no_host_has_the_address() {
    require_lab!();
    let net = Pair::new();
    net.client.sysctl("net/ipv4/neigh/c0/mcast_solicit", "1");
    net.client.sysctl("net/ipv4/neigh/c0/retrans_time_ms", "20");
    let trace = net.client.block_on(async {
        let sink = probed();
        trace_of(&sink, &client(&sink).build().unwrap(), "http://10.9.0.9/").await
    });
    let root = root(&trace, "tcp_host_unreachable");
    assert!(
        root.sentence.starts_with("No host on this network answers to the address of 10.9.0.9:80"),
        "{root}"
    );
}

/// Dials a name with these addresses several times, and returns the trace.
fn dialed(ns: &Ns, addresses: [&str; 2], times: usize) -> NetTrace {
    let addresses = addresses.map(|ip| SocketAddr::new(ip.parse().unwrap(), 0));
    ns.block_on(async move {
        let sink = probed();
        let resolver = tower::service_fn(move |_: Name| ready(Ok::<_, io::Error>(addresses.into_iter())));
        let connector = TcpConnector::new(&sink).resolver(resolver).attempt_delay(Duration::from_millis(20));
        for _ in 0..times {
            drop(connector.connect("web.test:80").await.unwrap());
        }
        sink.snapshot("")
    })
}

#[track_caller]
fn repeated(trace: &NetTrace, code: &str) -> Finding {
    let explanation = crate::explained(trace);
    let [repeated] = &explanation.findings[..] else { panic!("not one finding: {explanation:#?}") };
    assert_eq!((repeated.code.as_str(), repeated.count), (code, 3));
    explanation.verdicts[0].root().unwrap().clone()
}

/// One attempt that loses the race says nothing: the other address may just be nearer.
#[test]
fn an_address_that_never_answers() {
    require_lab!();
    let net = Pair::new();
    net.server.address("s0", "10.9.0.3/24");
    net.server.nft(Hook::Input, "ip daddr 10.9.0.2 tcp dport 80 drop");
    net.server.nft(Hook::Input, "ip6 daddr fd09::2 tcp dport 80 drop");
    let _server = Server::on(net.server.listen("10.9.0.3:80"), async |mut conn| conn.read_to_end().await);
    assert_nothing(&dialed(&net.client, ["10.9.0.2", "10.9.0.3"], 1));
    let found = repeated(&dialed(&net.client, ["10.9.0.2", "10.9.0.3"], 3), "tcp_filtered");
    assert_eq!((found.about.as_str(), quoted(&found, "connected")), ("10.9.0.2:80", "true"));

    assert_nothing(&dialed(&net.client, ["fd09::2", "10.9.0.3"], 1));
    let found = repeated(&dialed(&net.client, ["fd09::2", "10.9.0.3"], 3), "tcp_ipv6_dead");
    assert_eq!((found.about.as_str(), found.severity), ("IPv6", Severity::Degraded));
    assert!(
        found.sentence.contains("[fd09::2]:80") && found.sentence.contains("10.9.0.3:80"),
        "{}",
        found.sentence
    );
}

/// The kernel sends a SYN again after a second.
#[test]
fn a_syn_that_is_lost() {
    require_lab!();
    let net = Pair::new();
    net.server.nft(Hook::Input, "tcp dport 80 tcp flags & (syn | ack) == syn numgen inc mod 2 0 drop");
    let _server = Server::on(net.server.listen("10.9.0.2:80"), answer);
    let trace = net.client.block_on(async {
        let sink = probed();
        trace_of(&sink, &client(&sink).build().unwrap(), "http://10.9.0.2/").await
    });
    let root = root(&trace, "tcp_syn_lost");
    assert_eq!((root.about.as_str(), quoted(&root, "tcpInfo.totalRetrans")), ("10.9.0.2:80", "1"));
}

#[test]
fn there_is_no_port_left() {
    require_lab!();
    let ns = Ns::new();
    ns.port_range(40_000, 40_000);
    let server = Server::on(ns.listen("127.0.0.1:80"), answer);
    let trace = ns.block_on(async {
        let sink = TraceSink::new();
        let first = client(&sink).build().unwrap();
        first.get("http://127.0.0.1/").await.unwrap().into_body().bytes().await.unwrap();
        let second = client(&sink).build().unwrap();
        second.get("http://127.0.0.1/").await.unwrap_err();
        first.close().await;
        sink.snapshot("")
    });
    drop(server);
    let root = root(&trace, "tcp_ports_exhausted");
    assert_eq!((root.about.as_str(), quoted(&root, "failure")), ("127.0.0.1:80", "x_address_not_available"));
}

#[tokio::test]
async fn a_source_address_that_cannot_be_used() {
    let server = Server::answering(HELLO);
    for (source, failure, text) in [
        (IpAddr::from([192, 0, 2, 9]), "x_address_not_available", "is not an address of this host"),
        (IpAddr::from(Ipv6Addr::LOCALHOST), "x_invalid_argument", "which has the other address family"),
    ] {
        let sink = TraceSink::new();
        let client = client(&sink).source_ip(source).build().unwrap();
        let root =
            root(&trace_of(&sink, &client, &format!("http://{}/", server.addr())).await, "tcp_bad_source");
        assert_eq!((root.about.as_str(), quoted(&root, "failure")), (&*source.to_string(), failure));
        assert!(root.sentence.contains(text), "{}", root.sentence);
    }
    // The name has addresses of the other family only.
    let (sink, dns) = (TraceSink::new(), DnsServer::answering(&["::1"]).await);
    let resolver = StubResolver::builder(&sink).nameservers([dns.addr()]).hosts_file(None).resolv_conf(None);
    let builder = client(&sink).resolver(resolver.build().unwrap());
    let client = builder.source_ip(IpAddr::from([127, 0, 0, 1])).build().unwrap();
    let root = root(&trace_of(&sink, &client, "http://web.test/").await, "tcp_bad_source");
    assert!(root.sentence.contains("which has the other address family"), "{}", root.sentence);
}
