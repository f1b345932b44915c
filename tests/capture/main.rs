//! Packet capture compared with tcpdump and tshark, in network namespaces made for each test.
#![cfg(all(
    target_os = "linux",
    feature = "capture",
    feature = "client",
    any(feature = "ring", feature = "aws-lc-rs")
))]

#[cfg(all(feature = "conntrack", feature = "server"))]
mod accepted;
mod files;
mod kept;
mod limits;
#[cfg(feature = "conntrack")]
mod nat;
mod problems;
mod tcpdump;

use std::net::{IpAddr, SocketAddr};

use nettrace::capture::{CaptureProbe, PacketCapture};
use nettrace::client::ClientBuilder;
use nettrace::record::{AddrTuple, NetTrace};
use nettrace::{Client, TraceSink};

use test_support::dnsmasq::Dnsmasq;
use test_support::lab::Ns;
use test_support::raw::Server;

/// Starts a server that keeps its connections open.
fn server(ns: &Ns, addr: SocketAddr) -> Server {
    Server::on(ns.listen(&addr.to_string()), async |mut conn| {
        loop {
            conn.read_head().await?;
            conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await?;
        }
    })
}

/// Starts a nameserver that resolves `web.test` to `ip`.
fn nameserver(ns: &Ns, ip: IpAddr) -> Dnsmasq {
    Dnsmasq::builder().in_ns(ns, SocketAddr::new(ip, 53)).domain("test").host("web.test", &[ip]).start()
}

fn sink(capture: &CaptureProbe) -> TraceSink {
    assert_eq!(capture.problems(), []);
    TraceSink::builder().probe(capture.clone()).build()
}

/// Returns a builder of a client that reads no configuration of this machine.
fn client(sink: &TraceSink) -> ClientBuilder {
    Client::builder(sink).nameservers(Vec::<std::net::SocketAddr>::new())
}

async fn fetch(client: &Client, url: &str) -> Vec<u8> {
    let response = client.get(url).await.unwrap_or_else(|error| panic!("{url}: {error}"));
    response.into_body().bytes().await.expect("a body").to_vec()
}

/// Returns the only capture. Asserts that the kernel dropped nothing from it.
#[track_caller]
fn only(captures: Vec<PacketCapture>) -> PacketCapture {
    let [capture] = <[_; 1]>::try_from(captures).expect("one interface");
    assert_eq!(capture.dropped_by_kernel, 0);
    capture
}

/// Returns a tcpdump filter for the TCP and UDP connections of a trace.
fn of_trace(trace: &NetTrace) -> String {
    let filter = |protocol: &str, tuple: &AddrTuple| {
        let AddrTuple { src_ip, src_port, dst_ip, dst_port, .. } = tuple;
        let (src, dst) =
            (format!("host {src_ip} and port {src_port}"), format!("host {dst_ip} and port {dst_port}"));
        format!("({protocol} and {src} and {dst})")
    };
    let tcp = trace.tcp_conns.iter().map(|conn| filter("tcp", &conn.addr_tuple));
    let udp = trace.udp_conns.iter().map(|conn| filter("udp", &conn.addr_tuple));
    tcp.chain(udp).collect::<Vec<_>>().join(" or ")
}
