//! `ConntrackProbe`: entries as conntrack(8) shows them, and the problems that prevent them.

#[cfg(feature = "server")]
mod accepted;
mod attempts;
mod end;
mod entries;
mod listed;
mod problems;
mod time;

use std::net::{IpAddr, SocketAddr};

use nettrace::client::ClientBuilder;
use nettrace::linux::ConntrackProbe;
use nettrace::record::{ConntrackEntry, NetTrace, TcpConnTrace};
use nettrace::{Client, TraceSink};

use test_support::dnsmasq::Dnsmasq;
use test_support::lab::{Hook, Ns, Routed};
use test_support::raw::Server;

/// Starts a server in the lab that keeps its connections open.
fn server(net: &Routed, ip: IpAddr) -> Server {
    Server::on(net.server.listen(&SocketAddr::new(ip, 80).to_string()), async |mut conn| {
        loop {
            conn.read_head().await?;
            conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await?;
        }
    })
}

/// Starts a nameserver that resolves `web.test` to `ip`.
fn nameserver(net: &Routed, ip: IpAddr) -> Dnsmasq {
    Dnsmasq::builder()
        .in_ns(&net.server, SocketAddr::new(ip, 53))
        .domain("test")
        .host("web.test", &[ip])
        .start()
}

/// Makes the host track its connections, count their packets and bytes, and record when they began.
fn track(host: &Ns) {
    host.sysctl("net/netfilter/nf_conntrack_acct", "1");
    host.sysctl("net/netfilter/nf_conntrack_timestamp", "1");
    host.nft(Hook::Output, "ct state new");
}

/// Returns a probe of the calling thread's namespace, and a sink with it.
fn probed() -> (ConntrackProbe, TraceSink) {
    let probe = ConntrackProbe::new();
    let sink = TraceSink::builder().probe(probe.clone()).build();
    (probe, sink)
}

/// Returns a builder of a client that reads no configuration of this machine.
fn client(sink: &TraceSink) -> ClientBuilder {
    Client::builder(sink).nameservers(Vec::<std::net::SocketAddr>::new())
}

async fn fetch(client: &Client, url: &str) {
    let response = client.get(url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    let body = response.into_body().bytes().await.expect("a body");
    assert_eq!(&body[..], b"hello");
}

async fn refreshed(sink: &TraceSink) -> NetTrace {
    sink.refresh().await;
    sink.snapshot("refreshed")
}

/// Returns the only connection to that port.
#[track_caller]
fn conn_to(trace: &NetTrace, port: u16) -> &TcpConnTrace {
    let mut conns = trace.tcp_conns.iter().filter(|conn| conn.addr_tuple.dst_port == port);
    let conn = conns.next().expect("a connection");
    assert!(conns.next().is_none(), "one connection: {trace:#?}");
    conn
}

#[track_caller]
fn entry(conn: &TcpConnTrace) -> &ConntrackEntry {
    conn.conntrack.as_deref().unwrap_or_else(|| panic!("an entry: {conn:#?}"))
}
