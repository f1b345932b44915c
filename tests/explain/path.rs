//! Connections that break or get stuck, and what connection tracking shows about them.

use crate::{assert_nothing, client, explained, quoted, root, trace_of};
use nettrace::{
    Client, NetTrace, TraceSink,
    client::HttpVersion,
    explain::{Finding, Severity},
    linux::{ConntrackProbe, TcpInfoProbe},
    record::TcpInfoEvent,
};
use std::{io, net::IpAddr, sync::Arc, time::Duration};
use test_support::{
    lab::{Delay, Hook, Ns, Pair, Routed},
    raw::{Conn, Server},
    require::{require_lab, require_tool},
    wait,
    web::{Web, reply},
};
use tokio::sync::Notify;

const HELLO: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
/// Long enough for segments to be sent again, which takes at least 200 ms.
const LIMIT: Duration = Duration::from_millis(700);
const URL: &str = "http://10.9.2.2/";

fn probed() -> TraceSink {
    TraceSink::builder().probe(TcpInfoProbe::new()).build()
}

/// Returns a sink whose probes see the namespace of the calling thread.
fn tracked() -> TraceSink {
    TraceSink::builder().probe(TcpInfoProbe::new()).probe(ConntrackProbe::new()).build()
}

async fn answer(mut conn: Conn) -> io::Result<()> {
    loop {
        conn.read_head().await?;
        conn.write(HELLO).await?;
    }
}

async fn fetch(client: &Client, url: &str) {
    client.get(url).await.unwrap().into_body().bytes().await.unwrap();
}

/// Waits until the connections of all requests are idle.
async fn idle(sink: &TraceSink) {
    wait::until("the end of the request", || {
        sink.snapshot("").http_requests.iter().all(|request| !request.end_at.is_undefined())
    })
    .await;
}

/// Returns the finding with this code among those of the trace.
#[track_caller]
fn finding(trace: &NetTrace, code: &str) -> Finding {
    let explanation = explained(trace);
    let mut findings = explanation.verdicts.iter().flat_map(|verdict| &verdict.findings);
    let finding = findings.find(|finding| finding.code == code);
    let finding = finding.unwrap_or_else(|| panic!("no {code}: {explanation:#?}"));
    println!("{finding}");
    finding.clone()
}

#[tokio::test]
async fn a_reset_while_the_request_waits() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.reset()
    });
    let sink = TraceSink::new();
    let url = format!("http://{}/", server.addr());
    let trace = trace_of(&sink, &client(&sink).build().unwrap(), &url).await;
    let root = root(&trace, "tcp_reset");
    assert_eq!((root.about.as_str(), quoted(&root, "totalRecvBytes")), (&*server.addr().to_string(), "0"));
    assert!(root.sentence.contains("while the request waited for the response"), "{}", root.sentence);
}

#[tokio::test]
async fn a_reset_in_the_body() {
    let received = Arc::new(Notify::new());
    let has_received = received.clone();
    let server = Server::start(async move |mut conn| {
        conn.read_head().await?;
        conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await?;
        has_received.notified().await;
        conn.reset()
    });
    let sink = TraceSink::new();
    let client = client(&sink).build().unwrap();
    let response = client.get(format!("http://{}/", server.addr())).await.unwrap();
    received.notify_one();
    response.into_body().bytes().await.unwrap_err();
    client.close().await;
    let root = root(&sink.snapshot(""), "tcp_reset");
    assert!(root.sentence.contains("while the body of the response was received"), "{}", root.sentence);
    assert!(root.sentence.ends_with("and 43 received."), "{}", root.sentence);
}

#[tokio::test]
async fn a_reset_in_the_tls_handshake() {
    let server = Server::start(async |mut conn| {
        conn.read(100).await?;
        conn.reset()
    });
    let sink = TraceSink::new();
    let url = format!("https://{}/", server.addr());
    let trace = trace_of(&sink, &client(&sink).build().unwrap(), &url).await;
    let found = finding(&trace, "tcp_reset");
    assert!(found.sentence.contains("during the TLS handshake"), "{}", found.sentence);
}

/// A reset of an idle connection harms nobody.
#[tokio::test]
async fn a_reset_of_an_idle_connection() {
    let idle_at_client = Arc::new(Notify::new());
    let is_idle = idle_at_client.clone();
    let server = Server::start(async move |mut conn| {
        conn.read_head().await?;
        conn.write(HELLO).await?;
        is_idle.notified().await;
        conn.reset()
    });
    let sink = TraceSink::new();
    let client = client(&sink).build().unwrap();
    fetch(&client, &format!("http://{}/", server.addr())).await;
    idle(&sink).await;
    idle_at_client.notify_one();
    wait::until("the end of the connection", || sink.snapshot("").tcp_conns[0].end_reason.is_some()).await;
    client.close().await;
    let trace = sink.snapshot("");
    assert_eq!(trace.tcp_conns[0].failure, Some(nettrace::Failure::ConnectionReset));
    assert_nothing(&trace);
}

/// Nothing gets through after the first request.
#[test]
fn a_path_that_loses_everything() {
    require_lab!();
    let net = Routed::new();
    let _server = Server::on(net.server.listen("10.9.2.2:80"), answer);
    let trace = net.client.block_on(async {
        let sink = probed();
        let client = client(&sink).timeout(LIMIT).build().unwrap();
        fetch(&client, URL).await;
        idle(&sink).await;
        net.router.nft(Hook::Forward, "tcp dport 80 drop");
        trace_of(&sink, &client, URL).await
    });
    let root = root(&trace, "tcp_loss");
    assert_eq!(root.about, "10.9.2.2:80");
    assert!(quoted(&root, "tcpInfo.totalRetrans").parse::<u32>().unwrap() > 0, "{root}");
}

/// The router drops the packets of one connection, like a NAT that has forgotten it. A new one works.
#[test]
fn a_nat_that_forgets_a_connection() {
    require_lab!();
    let net = Routed::new();
    let _server = Server::on(net.server.listen("10.9.2.2:80"), answer);
    let trace = net.client.block_on(async {
        let sink = probed();
        let old = client(&sink).timeout(LIMIT).build().unwrap();
        fetch(&old, URL).await;
        idle(&sink).await;
        let port = sink.snapshot("").tcp_conns[0].addr_tuple.src_port;
        net.router.nft(Hook::Forward, &format!("tcp sport {port} drop"));
        let dead = old.get(URL);
        let new = client(&sink).build().unwrap();
        let alive = async {
            wait::until("the request is on its way", || sink.snapshot("").http_requests.len() == 2).await;
            fetch(&new, URL).await;
        };
        let (dead, ()) = tokio::join!(dead, alive);
        dead.unwrap_err();
        old.close().await;
        new.close().await;
        sink.snapshot("")
    });
    let root = root(&trace, "nat_mapping_lost");
    assert_eq!((root.about.as_str(), quoted(&root, "connected")), ("10.9.2.2:80", "true"));
    let new = root.evidence.iter().find(|evidence| evidence.field == "connected").unwrap();
    assert_ne!(new.record, trace.tcp_conns[0].trace_id);
}

/// The router drops the request and the first time that it is sent again.
#[test]
fn a_request_that_is_lost() {
    require_lab!();
    let net = Routed::new();
    net.router.nft(Hook::Forward, "tcp dport 80 tcp flags & psh == psh numgen inc mod 4 < 2 drop");
    let _server = Server::on(net.server.listen("10.9.2.2:80"), answer);
    let trace = net.client.block_on(async {
        let sink = probed();
        trace_of(&sink, &client(&sink).build().unwrap(), URL).await
    });
    let root = root(&trace, "tcp_loss");
    assert_eq!((root.about.as_str(), root.severity), ("10.9.2.2:80", Severity::Degraded));
    assert!(quoted(&root, "tcpInfo.totalRetrans").parse::<u32>().unwrap() > 0, "{root}");
}

/// Returns a network in which packets of more than 1000 bytes do not pass the router. Each packet is one segment.
fn black_hole() -> Routed {
    let net = Routed::new();
    net.client.sh("ip link set c0 gso_max_segs 1");
    net.server.sh("ip link set s0 gso_max_segs 1");
    net.router.nft(Hook::Forward, "meta length > 1000 drop");
    net
}

#[test]
fn large_requests_are_lost() {
    require_lab!();
    let net = black_hole();
    let _server = Server::on(net.server.listen("10.9.2.2:80"), async |mut conn| conn.read_to_end().await);
    let trace = net.client.block_on(async {
        let sink = probed();
        let client = client(&sink).timeout(LIMIT).build().unwrap();
        client.post(URL, vec![7; 5000]).await.unwrap_err();
        client.close().await;
        sink.snapshot("")
    });
    let root = root(&trace, "tcp_mtu_black_hole");
    assert_eq!((root.about.as_str(), quoted(&root, "tcpInfo.sndMss")), ("10.9.2.2:80", "1448"));
}

#[test]
fn large_responses_are_lost() {
    require_lab!();
    let net = black_hole();
    let _server = Server::on(net.server.listen("10.9.2.2:80"), async |mut conn| {
        conn.read_head().await?;
        conn.write(&[b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n", &[7; 5000][..]].concat()).await?;
        conn.read_to_end().await
    });
    let trace = net.client.block_on(async {
        let sink = probed();
        trace_of(&sink, &client(&sink).timeout(LIMIT).build().unwrap(), URL).await
    });
    let root = root(&trace, "tcp_mtu_black_hole");
    assert!(
        root.sentence.starts_with("A later part of what 10.9.2.2:80 sent has arrived"),
        "{}",
        root.sentence
    );
    assert!(root.suggestion.contains("from 10.9.2.2 to this host"), "{}", root.suggestion);
    let findings = &explained(&trace).verdicts[0].findings;
    assert!(findings.iter().all(|finding| finding.code != "http_server_slow"), "{findings:?}");
}

#[tokio::test]
async fn a_server_that_does_not_read() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.hang().await
    });
    let sink = probed();
    let client = client(&sink).timeout(LIMIT).build().unwrap();
    client.post(format!("http://{}/", server.addr()), vec![7; 16 << 20]).await.unwrap_err();
    client.close().await;
    let root = root(&sink.snapshot(""), "tcp_zero_window");
    assert_eq!(root.about, server.addr().to_string());
    let limited: u64 = quoted(&root, "tcpInfo.rwndLimitedUs").parse().unwrap();
    assert!(limited > 300_000, "{limited}");
}

#[tokio::test]
async fn a_server_that_reads() {
    let server = Server::start(async |mut conn| {
        conn.read_head().await?;
        conn.read(2 << 20).await?;
        conn.write(HELLO).await
    });
    let sink = probed();
    let client = client(&sink).build().unwrap();
    let response = client.post(format!("http://{}/", server.addr()), vec![7; 2 << 20]).await.unwrap();
    response.into_body().bytes().await.unwrap();
    client.close().await;
    assert_nothing(&sink.snapshot(""));
}

/// A round trip takes 80 ms, and the limit allows for one and a half.
#[test]
fn a_time_limit_below_two_round_trips() {
    require_lab!();
    let net = Routed::with_delay(Delay::All(Duration::from_millis(40)));
    let _server = Server::on(net.server.listen("10.9.2.2:80"), answer);
    let trace = net.client.block_on(async {
        let sink = probed();
        let patient = client(&sink).build().unwrap();
        fetch(&patient, URL).await; // which includes the lookup of the router's MAC address
        patient.close().await;
        trace_of(&sink, &client(&sink).timeout(Duration::from_millis(120)).build().unwrap(), URL).await
    });
    let root = root(&trace, "tcp_far_away");
    assert_eq!((root.about.as_str(), quoted(&root, "endReason")), ("10.9.2.2:80", "timeout"));
    assert!(quoted(&root, "tcpInfo.minRttUs").parse::<u32>().unwrap() >= 80_000, "{root}");
}

/// The slowest link passes 2 MB/s, and everything that is sent before waits in its queue.
#[test]
fn a_queue_that_is_full() {
    require_lab!();
    let net = Routed::with_delay(Delay::Rate(2_000_000));
    // Reno fills the queue; others stop when the round trips take longer.
    net.client.sysctl("net/ipv4/tcp_congestion_control", "reno");
    let _server = Server::on(net.server.listen("10.9.2.2:80"), async |mut conn| {
        conn.read_head().await?;
        conn.read(1 << 20).await?;
        conn.write(HELLO).await
    });
    let trace = net.client.block_on(async {
        let sink = probed();
        let client = client(&sink).build().unwrap();
        let response = client.post(URL, vec![7; 1 << 20]).await.unwrap();
        response.into_body().bytes().await.unwrap();
        client.close().await;
        sink.snapshot("")
    });
    let root = root(&trace, "tcp_bufferbloat");
    assert_eq!((root.about.as_str(), root.severity), ("10.9.2.2:80", Severity::Degraded));
    let micros = |field: &str| quoted(&root, field).parse::<u32>().unwrap();
    assert!(micros("tcpInfo.rttUs") >= 4 * micros("tcpInfo.minRttUs"), "{root}");
}

/// Makes the host track its connections.
fn track(ns: &Ns) {
    ns.sysctl("net/netfilter/nf_conntrack_acct", "1");
    ns.nft(Hook::Output, "ct state new");
}

async fn refreshed(sink: &TraceSink) -> NetTrace {
    sink.refresh().await;
    sink.snapshot("")
}

#[test]
fn a_syn_that_does_not_leave_the_host() {
    require_lab!();
    let net = Pair::new();
    track(&net.client);
    net.client.nft(Hook::Output, "tcp dport 81 drop");
    let _server = Server::on(net.server.listen("10.9.0.2:80"), answer);
    let trace = net.client.block_on(async {
        let sink = tracked();
        let client = client(&sink).tcp_handshake_timeout(Duration::from_millis(50)).build().unwrap();
        client.get("http://10.9.0.2:81/").await.unwrap_err();
        fetch(&client, "http://10.9.0.2/").await;
        client.close().await;
        refreshed(&sink).await
    });
    let root = root(&trace, "nat_untracked");
    assert_eq!((root.about.as_str(), quoted(&root, "conntrack")), ("10.9.0.2:81", "no entry"));
}

/// The host sends connections to port 81 to port 82, where nothing answers.
#[test]
fn a_destination_that_is_translated() {
    require_lab!();
    let net = Pair::new();
    track(&net.client);
    net.client.sh("nft 'add table ip nat; add chain ip nat out { type nat hook output priority -100; }
        add rule ip nat out tcp dport 81 dnat to 10.9.0.2:82'");
    net.server.nft(Hook::Input, "tcp dport 82 drop");
    let trace = net.client.block_on(async {
        let sink = tracked();
        let client = client(&sink).tcp_handshake_timeout(Duration::from_millis(50)).build().unwrap();
        client.get("http://10.9.0.2:81/").await.unwrap_err();
        client.close().await;
        refreshed(&sink).await
    });
    let root = root(&trace, "tcp_filtered");
    assert!(
        root.sentence.contains("10.9.0.2:81, which this host redirects to 10.9.0.2:82,"),
        "{}",
        root.sentence
    );
    let found = finding(&trace, "nat_unexpected");
    assert!(
        found.sentence.contains("connections to 10.9.0.2:81 to 10.9.0.2:82 instead"),
        "{}",
        found.sentence
    );
    assert!(quoted(&found, "conntrack.addrReply").starts_with("10.9.0.2:82 → "), "{found}");
}

/// The host does not track the replies, as if they came in on another path.
#[test]
fn replies_that_are_not_tracked() {
    require_lab!();
    let net = Pair::new();
    track(&net.client);
    net.client.sh("nft 'add table ip raw; add chain ip raw in { type filter hook prerouting priority -300; }
        add rule ip raw in tcp sport 80 notrack'");
    let _server = Server::on(net.server.listen("10.9.0.2:80"), async |mut conn| {
        conn.read_head().await?;
        conn.write(HELLO).await?;
        conn.read_to_end().await
    });
    let trace = net.client.block_on(async {
        let sink = tracked();
        let client = client(&sink).timeout(Duration::from_millis(100)).build().unwrap();
        fetch(&client, "http://10.9.0.2/").await;
        idle(&sink).await;
        client.get("http://10.9.0.2/").await.unwrap_err();
        client.close().await;
        refreshed(&sink).await
    });
    let found = finding(&trace, "nat_asymmetric");
    assert_eq!(found.about, "10.9.0.2:80");
    assert!(!quoted(&found, "conntrack.status").contains("seen-reply"), "{found}");
}

/// The client's host translates addresses, and is made to forget the entry of a kept HTTP/2 connection. Only requests
/// fail: the connection stays open.
#[test]
fn an_entry_that_is_deleted_under_an_open_connection() {
    require_lab!();
    require_tool!("conntrack");
    let net = Pair::new();
    net.client.sysctl("net/netfilter/nf_conntrack_tcp_loose", "0"); // no new entry for a later segment
    net.client.address("lo", "10.8.0.1/32");
    net.client.masquerade("c0");
    let _server = Web::on(net.server.listen("10.9.0.2:80"), None, async |_| reply("hello"));
    let trace = net.client.block_on(async {
        let sink = tracked();
        let client =
            client(&sink).source_ip(IpAddr::from([10, 8, 0, 1])).http_version(HttpVersion::Http2Only);
        let client = client.timeout(LIMIT).build().unwrap();
        fetch(&client, "http://10.9.0.2/").await;
        let entry = || sink.snapshot("").tcp_conns[0].conntrack.clone();
        wait::until("the entry", || entry().is_some()).await;
        net.client.sh("conntrack -D -s 10.8.0.1");
        client.get("http://10.9.0.2/").await.unwrap_err();
        wait::until("the loss of the entry", || !entry().unwrap().lost_at.is_undefined()).await;
        sink.snapshot("")
    });
    let [conn] = &trace.tcp_conns[..] else { panic!("expected one connection") };
    assert!(conn.end_reason.is_none(), "the connection is open");
    let root = root(&trace, "nat_mapping_lost");
    assert!(
        root.sentence.ends_with("the connection tracking of this host has no entry for it any more."),
        "{}",
        root.sentence
    );
    assert!(quoted(&root, "tcpInfo.unacked").parse::<u32>().unwrap() > 0, "{root}");
    assert!(quoted(&root, "tcpInfo.backoff").parse::<u8>().unwrap() > 0, "{root}");
    let lost = root.evidence.iter().find(|evidence| evidence.field == "conntrack.lostAt").unwrap();
    assert_eq!((&lost.record, lost.at), (&conn.trace_id, conn.conntrack.as_ref().unwrap().lost_at));
}

/// A request that still waits is looked at, too.
#[test]
fn a_request_that_is_stuck() {
    require_lab!();
    let net = Routed::new();
    let _server = Server::on(net.server.listen("10.9.2.2:80"), answer);
    let trace = net.client.block_on(async {
        let sink = TraceSink::builder().probe(TcpInfoProbe::new()).stalled_after(LIMIT).build();
        let client = client(&sink).build().unwrap();
        fetch(&client, URL).await;
        idle(&sink).await;
        net.router.nft(Hook::Forward, "tcp dport 80 drop");
        let stuck = tokio::spawn(async move { client.get(URL).await.map(drop) });
        let infos = || sink.snapshot("").tcp_conns[0].tcp_info.len();
        wait::until("a look at the connection", || infos() == 2).await;
        let trace = sink.snapshot("");
        stuck.abort();
        trace
    });
    let root = root(&trace, "tcp_loss");
    assert_eq!(trace.tcp_conns[0].tcp_info[1].event, TcpInfoEvent::Stalled);
    assert!(trace.http_requests[1].end_at.is_undefined());
    assert!(quoted(&root, "tcpInfo.totalRetrans").parse::<u32>().unwrap() > 0, "{root}");
}
