//! Tests the entries of established connections.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use nettrace::connect::{TcpConnector, TraceConnectLayer};
use nettrace::linux::ConntrackProbe;
use nettrace::record::{ConntrackStatus, NetTrace, Timestamp};
use nettrace::{Client, TraceSink};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tower::Layer as _;

use super::listed::{Listed, from_port, list};
use super::{conn_to, entry, fetch, nameserver, probed, refreshed, server, track};
use test_support::check;
use test_support::lab::{Ns, Routed};
use test_support::require::{require_lab, require_tool};
use test_support::wait;

/// Returns a trace and the host's table, taken while the table did not change.
pub(super) async fn at_rest(sink: &TraceSink, host: &Ns, filter: &str) -> (NetTrace, Vec<Listed>) {
    let deadline = wait::Deadline::new("a table that does not change");
    loop {
        deadline.check();
        let before = list(host, filter);
        let trace = refreshed(sink).await;
        if list(host, filter) == before {
            return (trace, before);
        }
    }
}

pub(super) fn family(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "-f ipv4" } else { "-f ipv6" }
}

/// Makes a request to `http://web.test/` over IPv4 and over IPv6, and compares the entries of the connection and of the
/// DNS queries with those that conntrack(8) lists on `host`. Replies go to the addresses `reply_to`.
fn assert_translated_entries(
    net: &Routed,
    host: &Ns,
    new_probe: impl Fn() -> ConntrackProbe + Sync,
    sources: [Option<IpAddr>; 2],
    reply_to: [IpAddr; 2],
) {
    for ((ip, source), reply_to) in Routed::SERVER.ips().into_iter().zip(sources).zip(reply_to) {
        let (_server, nameserver) = (server(net, ip), nameserver(net, ip));
        net.client.block_on(async {
            let probe = new_probe();
            let sink = TraceSink::builder().probe(probe.clone()).build();
            let client =
                Client::builder(&sink).nameservers([nameserver.addr]).source_ip(source).build().unwrap();
            fetch(&client, "http://web.test/").await;
            let (trace, listed) = at_rest(&sink, host, family(ip)).await;
            assert_eq!(probe.problems(), []);

            let conn = conn_to(&trace, 80);
            let of_conn = entry(conn);
            assert_eq!(of_conn.tcp_state.as_str(), "established");
            assert!(of_conn.bytes_recv > conn.total_recv_bytes, "{conn:#?}");
            let udp = trace.udp_conns.iter().map(|conn| {
                assert!(conn.from_resolver && conn.end_reason.is_some());
                (&conn.addr_tuple, conn.conntrack.as_deref().expect("an entry"))
            });
            let udp: Vec<_> = udp.collect();
            assert_eq!(udp.len(), 2, "one query for each address type");
            for (addresses, entry) in udp.into_iter().chain([(&conn.addr_tuple, of_conn)]) {
                from_port(&listed, addresses.src_port).assert_is(entry);
                assert_eq!(&entry.addr_orig, addresses, "the addresses of the socket");
                assert_eq!(entry.addr_reply.src_ip, ip.to_string());
                assert_eq!(entry.addr_reply.dst_ip, reply_to.to_string());
                let flags =
                    ConntrackStatus::SRC_NAT | ConntrackStatus::SEEN_REPLY | ConntrackStatus::CONFIRMED;
                assert!(entry.status.contains(flags), "{}", entry.status);
                assert!(!entry.status.contains(ConntrackStatus::DST_NAT), "{}", entry.status);
            }
            client.close().await;
            sink.refresh().await;
            check::finished(&sink.snapshot("all"));
        });
    }
}

#[test]
fn entries_have_the_addresses_that_the_clients_host_translates_to() {
    require_lab!();
    require_tool!("conntrack", "dnsmasq");
    let net = Routed::new();
    track(&net.client);
    let sources = ["10.99.0.1", "fd99::1"].map(|ip| ip.parse::<IpAddr>().unwrap());
    net.client.sh("ip address add 10.99.0.1/32 dev lo; ip address add fd99::1/128 dev lo nodad");
    net.client.masquerade("c0");
    assert_translated_entries(
        &net,
        &net.client,
        ConntrackProbe::new,
        sources.map(Some),
        Routed::CLIENT.ips(),
    );
}

/// The probe is in the router's namespace and sees the connections of the client behind it.
#[test]
fn entries_have_the_addresses_that_the_router_translates_to() {
    require_lab!();
    require_tool!("conntrack", "dnsmasq");
    let net = Routed::new();
    track(&net.router);
    net.router.masquerade("r1");
    let make = || net.router.run(ConntrackProbe::new);
    assert_translated_entries(&net, &net.router, make, [None, None], Routed::ROUTER_TO_SERVER.ips());
}

#[test]
fn without_nat_replies_go_to_the_client() {
    require_lab!();
    require_tool!("conntrack");
    let net = Routed::new();
    track(&net.client);
    // The NAT of a router is invisible on the client's host.
    net.router.masquerade("r1");
    let _server = server(&net, Routed::SERVER.v4.into());
    net.client.block_on(async {
        let (_, sink) = probed();
        let client = super::client(&sink).build().unwrap();
        let began = SystemTime::now();
        fetch(&client, "http://10.9.2.2/").await;
        let (trace, listed) = at_rest(&sink, &net.client, "-p tcp").await;
        let conn = conn_to(&trace, 80);
        let entry = entry(conn);
        from_port(&listed, conn.addr_tuple.src_port).assert_is(entry);
        assert_eq!(entry.addr_orig, conn.addr_tuple);
        assert_eq!(entry.addr_reply.dst_ip, conn.addr_tuple.src_ip);
        assert_eq!(entry.addr_reply.dst_port, conn.addr_tuple.src_port);
        assert!(!entry.status.contains(ConntrackStatus::SRC_NAT), "{}", entry.status);

        let unix_nanos =
            |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as i128;
        // The kernel's coarse clock may be a tick behind.
        let [from, to] = [began - Duration::from_millis(20), SystemTime::now()];
        let [from, to] = [from, to].map(|at| Timestamp::from_unix_nanos(unix_nanos(at)));
        assert!(from <= entry.start_at && entry.start_at <= to, "{:#}", entry.start_at);
        assert!(entry.stop_at.is_undefined());
    });
}

/// The addresses of a foreign connector's connection are known only after it has connected.
#[test]
fn connections_of_a_foreign_connector_have_entries() {
    require_lab!();
    require_tool!("conntrack");
    let net = Routed::new();
    track(&net.client);
    let _server = server(&net, Routed::SERVER.v4.into());
    net.client.block_on(async {
        let (probe, sink) = probed();
        let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
        let client = legacy::Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
        let response = client.get("http://10.9.2.2/".parse().unwrap()).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
        let (trace, listed) = at_rest(&sink, &net.client, "-p tcp").await;
        let (conn, open) = (conn_to(&trace, 80), entry(conn_to(&trace, 80)));
        from_port(&listed, conn.addr_tuple.src_port).assert_is(open);
        assert_eq!(open.tcp_state.as_str(), "established");
        drop(client);
        let deadline = wait::Deadline::new("an entry in the state time-wait");
        let closed = loop {
            deadline.check();
            let trace = refreshed(&sink).await;
            if entry(conn_to(&trace, 80)).tcp_state.as_str() == "time-wait" {
                break trace;
            }
            tokio::task::yield_now().await;
        };
        assert!(entry(conn_to(&closed, 80)).packets_sent > open.packets_sent);
        assert_eq!(probe.problems(), []);
        check::finished(&closed);
    });
}

#[test]
fn entries_have_their_mark_and_zone() {
    require_lab!();
    require_tool!("conntrack");
    let net = Routed::new();
    track(&net.client);
    net.client.sh("nft 'add table inet zones
              add chain inet zones output { type filter hook output priority raw; }
              add chain inet zones input { type filter hook prerouting priority raw; }
              add chain inet zones marks { type filter hook output priority 0; }
              add rule inet zones output ct zone set 5
              add rule inet zones input ct zone set 5
              add rule inet zones marks ct mark set 0x80000001'");
    let _server = server(&net, Routed::SERVER.v4.into());
    net.client.block_on(async {
        let probe = ConntrackProbe::builder().zone(5).build();
        let sink = TraceSink::builder().probe(probe.clone()).build();
        let client = super::client(&sink).build().unwrap();
        fetch(&client, "http://10.9.2.2/").await;
        let (trace, listed) = at_rest(&sink, &net.client, "-p tcp").await;
        let conn = conn_to(&trace, 80);
        let entry = entry(conn);
        from_port(&listed, conn.addr_tuple.src_port).assert_is(entry);
        assert_eq!((entry.zone, entry.mark), (Some(5), 0x8000_0001));
        assert_eq!(probe.problems(), []);
    });
}

/// Tracking begins after the handshake and the server sends first, so the kernel takes the server for the originator.
#[test]
fn a_connection_older_than_its_entry_is_counted_from_the_client() {
    require_lab!();
    let net = Routed::new();
    let listener = net.server.listen(&SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 80).to_string());
    net.client.block_on(async {
        let (_, sink) = probed();
        let addr = SocketAddr::new(Routed::SERVER.v6.into(), 80);
        let mut stream = TcpConnector::new(&sink).connect(addr).await.unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        track(&net.client);
        std::io::Write::write_all(&mut peer, &[7; 1000]).unwrap();
        stream.read_exact(&mut [0; 1000]).await.unwrap();
        let deadline = wait::Deadline::new("an entry that has counted a packet");
        let trace = loop {
            deadline.check();
            let trace = refreshed(&sink).await;
            // The acknowledgement may be counted later.
            if conn_to(&trace, 80).conntrack.as_ref().is_some_and(|entry| entry.packets_sent > 0) {
                break trace;
            }
        };
        let conn = conn_to(&trace, 80);
        let entry = entry(conn);
        assert_eq!((&entry.addr_orig.src_ip, entry.addr_orig.src_port), (&conn.addr_tuple.dst_ip, 80));
        assert!(entry.bytes_recv > 1000 && entry.bytes_sent < 1000, "{entry:#?}");
        stream.write_all(&[7; 4000]).await.unwrap();
        let trace = refreshed(&sink).await;
        assert!(super::entry(conn_to(&trace, 80)).bytes_sent > 4000);
    });
}
