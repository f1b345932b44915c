//! The bounds of a capture, and what is reported when they are reached.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use nettrace::TraceSink;
use nettrace::capture::{CaptureProbe, PacketCapture};
use nettrace::connect::TcpConnector;
use tokio::io::AsyncReadExt as _;

use super::{client, fetch, only, server, sink};
use test_support::lab::{Ns, Pair};
use test_support::require::require_lab;

const HEADER: usize = 16;

fn size(captures: &[PacketCapture]) -> usize {
    captures.iter().flat_map(|capture| &capture.packets).map(|packet| packet.data.len() + HEADER).sum()
}

/// Starts a server that sends zeros over each connection.
fn pour(ns: &Ns, addr: &str, bytes: usize) -> std::thread::JoinHandle<()> {
    let listener = ns.listen(addr);
    ns.spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let chunk = [0; 1 << 16];
        (0..bytes / chunk.len()).for_each(|_| stream.write_all(&chunk).expect("write"));
    })
}

async fn drink(sink: &TraceSink, addr: &str) -> u64 {
    let mut stream = TcpConnector::new(sink).connect(addr).await.unwrap();
    let (mut chunk, mut sum) = (vec![0; 1 << 16], 0);
    while let len @ 1.. = stream.read(&mut chunk).await.unwrap() {
        sum += len as u64;
    }
    sum
}

/// Returns how many packets were kept or counted.
fn passed(capture: &PacketCapture) -> u64 {
    capture.packets.len() as u64 + capture.dropped_by_limit + capture.dropped_by_kernel
}

/// Returns the captures once the first interface knows of as many packets as the second, which sees the same ones: the
/// last may still be under way.
#[track_caller]
fn at_rest(captures: impl Fn() -> Vec<PacketCapture>) -> Vec<PacketCapture> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let captures = captures();
        let passed: Vec<_> = captures.iter().map(passed).collect();
        if passed[0] >= passed[1] {
            return captures;
        }
        assert!(Instant::now() < end, "{passed:?}");
        std::thread::yield_now();
    }
}

#[test]
fn the_size_limit_holds_for_all_interfaces_together() {
    require_lab!();
    let net = Pair::new();
    let capture = net
        .client
        .run(|| CaptureProbe::builder(["c0", "any"]).total_size_limit(200_000).buffer_size(64 << 20).start());
    let sink = sink(&capture);
    let server = pour(&net.server, "10.9.0.2:80", 64 << 20);
    let received = net.client.block_on(drink(&sink, "10.9.0.2:80"));
    server.join().unwrap();
    assert_eq!(received, 64 << 20);
    let captures = at_rest(|| sink.captures());
    assert!(captures.iter().all(|capture| capture.truncated && capture.dropped_by_limit > 0));
    assert_eq!(passed(&captures[0]), passed(&captures[1]));
    let size = size(&captures);
    assert!(size <= 200_000 && size > 200_000 - 1_600, "{size}");
}

#[test]
fn packets_that_the_kernel_lost_are_counted() {
    require_lab!();
    let net = Pair::new();
    let of_size = |bytes: u32| {
        let builder = CaptureProbe::builder(["c0"]).total_size_limit(64 << 20).buffer_size(bytes);
        net.client.run(|| builder.start())
    };
    let (small, large) = (of_size(8 << 10), of_size(64 << 20));
    let sink = TraceSink::builder().probe(small.clone()).probe(large.clone()).build();
    let server = pour(&net.server, "10.9.0.2:80", 256 << 20);
    net.client.block_on(drink(&sink, "10.9.0.2:80"));
    server.join().unwrap();
    let captures = at_rest(|| [&small, &large].map(|capture| capture.captures().remove(0)).to_vec());
    assert!(captures[0].dropped_by_kernel > 0, "{} packets", captures[0].packets.len());
    assert_eq!(captures[1].dropped_by_kernel, 0);
    // Some of those that it lost were of no connection, such as neighbour discovery.
    assert!(passed(&captures[0]) < passed(&captures[1]) + 20);
}

/// Nothing of the flood is kept, and no packet of the traced connection is lost.
#[test]
fn a_flood_of_other_packets_does_no_harm() {
    require_lab!();
    let net = Pair::new();
    let web = server(&net.server, SocketAddr::new(Pair::SERVER.v4.into(), 80));
    let flood = pour(&net.server, "10.9.0.2:81", 256 << 20);
    let capture = net.client.run(|| CaptureProbe::builder(["c0"]).buffer_size(64 << 20).start());
    let sink = sink(&capture);
    let stranger = net.client.spawn(|| {
        let mut stream = TcpStream::connect("10.9.0.2:81").expect("connect");
        let mut chunk = vec![0; 1 << 16];
        while stream.read(&mut chunk).expect("read") > 0 {}
    });
    net.client.block_on(async {
        while !stranger.is_finished() {
            let client = client(&sink).build().unwrap();
            fetch(&client, "http://10.9.0.2/").await;
            client.close().await;
        }
    });
    stranger.join().unwrap();
    flood.join().unwrap();
    let connections = sink.snapshot("all").tcp_conns.len();
    web.ended_blocking(connections);
    let captured = only(sink.captures());
    let port = |packet: &[u8]| [34, 36].map(|at| u16::from_be_bytes([packet[at], packet[at + 1]]));
    assert!(captured.packets.iter().all(|packet| port(&packet.data).contains(&80)));
    let syns = captured.packets.iter().filter(|packet| packet.data[47] == 0x02).count();
    assert!(captured.truncated || syns == connections, "{syns} SYNs of {connections} connections");
}

#[test]
fn a_clear_drops_packets_and_counts() {
    require_lab!();
    let net = Pair::new();
    let _web = server(&net.server, SocketAddr::new(Pair::SERVER.v4.into(), 80));
    let capture = net.client.run(|| CaptureProbe::builder(["c0"]).total_size_limit(500).start());
    let sink = sink(&capture);
    net.client.block_on(async {
        let client = client(&sink).build().unwrap();
        fetch(&client, "http://10.9.0.2/").await;
        let before = only(sink.captures());
        assert!(before.truncated && !before.packets.is_empty());
        sink.clear();
        let cleared = only(sink.captures());
        assert!(!cleared.truncated && cleared.packets.is_empty() && cleared.dropped_by_limit == 0);

        // The connection is still known.
        fetch(&client, "http://10.9.0.2/").await;
        let after = only(sink.captures());
        assert!(!after.packets.is_empty());
        let last = before.packets.last().unwrap().time;
        assert!(after.packets.iter().all(|packet| packet.time > last));
        capture.clear();
        assert_eq!(only(capture.captures()).packets, []);
        client.close().await;
    });
}

/// Reading a capture does not change it.
#[test]
fn captures_go_on_while_they_are_read() {
    require_lab!();
    let net = Pair::new();
    let _web = server(&net.server, SocketAddr::new(Pair::SERVER.v4.into(), 80));
    let capture = net.client.run(|| CaptureProbe::builder(["c0"]).start());
    let sink = sink(&capture);
    net.client.block_on(async {
        let client = client(&sink).build().unwrap();
        let mut before = Vec::new();
        for _ in 0..20 {
            fetch(&client, "http://10.9.0.2/").await;
            let now = only(sink.captures()).packets;
            assert!(now.len() >= before.len() + 2, "request and response are there at once");
            assert_eq!(now[..before.len()], before);
            before = now;
        }
    });
}
