//! The limits of a capture, and what is reported when they are reached.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use nettrace::TraceSink;
use nettrace::capture::{CaptureProbe, PacketCapture};
use nettrace::connect::TcpConnector;
use tokio::io::AsyncReadExt as _;

use super::{client, fetch, only, server, sink};
use test_support::lab::{Ns, Pair};
use test_support::require::require_lab;
use test_support::wait;

/// The bytes that each packet counts towards the size limit in addition to its data.
const PACKET_HEADER_BYTES: usize = 16;

fn size(captures: &[PacketCapture]) -> usize {
    captures
        .iter()
        .flat_map(|capture| &capture.packets)
        .map(|packet| packet.data.len() + PACKET_HEADER_BYTES)
        .sum()
}

/// Starts a server that sends `bytes` zeros over one connection.
fn serve_zeros(ns: &Ns, addr: &str, bytes: usize) -> std::thread::JoinHandle<()> {
    let listener = ns.listen(addr);
    ns.spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let chunk = [0; 1 << 16];
        (0..bytes / chunk.len()).for_each(|_| stream.write_all(&chunk).expect("write"));
    })
}

/// Reads from a traced connection until the server closes it, and returns the number of bytes.
async fn download(sink: &TraceSink, addr: &str) -> u64 {
    let mut stream = TcpConnector::new(sink).connect(addr).await.unwrap();
    let (mut chunk, mut sum) = (vec![0; 1 << 16], 0);
    while let len @ 1.. = stream.read(&mut chunk).await.unwrap() {
        sum += len as u64;
    }
    sum
}

/// Returns the number of packets that were kept or dropped.
fn packet_count(capture: &PacketCapture) -> u64 {
    capture.packets.len() as u64 + capture.dropped_by_limit + capture.dropped_by_kernel
}

/// Waits until the first capture has counted as many packets as the second, which sees the same ones, and returns both.
/// The last packets may reach one capture later than the other.
#[track_caller]
fn settled(captures: impl Fn() -> Vec<PacketCapture>) -> Vec<PacketCapture> {
    let deadline = wait::Deadline::new("the packets that the second capture has counted");
    loop {
        let captures = captures();
        let counts: Vec<_> = captures.iter().map(packet_count).collect();
        if counts[0] >= counts[1] {
            return captures;
        }
        deadline.check();
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
    let server = serve_zeros(&net.server, "10.9.0.2:80", 64 << 20);
    let received = net.client.block_on(download(&sink, "10.9.0.2:80"));
    server.join().unwrap();
    assert_eq!(received, 64 << 20);
    let captures = settled(|| sink.captures());
    assert!(captures.iter().all(|capture| capture.truncated && capture.dropped_by_limit > 0));
    assert_eq!(packet_count(&captures[0]), packet_count(&captures[1]));
    let size = size(&captures);
    assert!(size <= 200_000 && size > 200_000 - 1_600, "{size}");
}

#[test]
fn packets_that_the_kernel_dropped_are_counted() {
    require_lab!();
    let net = Pair::new();
    let with_buffer = |bytes: u32| {
        let builder = CaptureProbe::builder(["c0"]).total_size_limit(64 << 20).buffer_size(bytes);
        net.client.run(|| builder.start())
    };
    let (small, large) = (with_buffer(8 << 10), with_buffer(64 << 20));
    let sink = TraceSink::builder().probe(small.clone()).probe(large.clone()).build();
    let server = serve_zeros(&net.server, "10.9.0.2:80", 256 << 20);
    net.client.block_on(download(&sink, "10.9.0.2:80"));
    server.join().unwrap();
    let captures = settled(|| [&small, &large].map(|capture| capture.captures().remove(0)).to_vec());
    assert!(captures[0].dropped_by_kernel > 0, "{} packets", captures[0].packets.len());
    assert_eq!(captures[1].dropped_by_kernel, 0);
    // Some of the dropped packets belong to no connection, such as those of neighbour discovery.
    assert!(packet_count(&captures[0]) < packet_count(&captures[1]) + 20);
}

/// Nothing of the flood is kept, and no packet of the traced connection is lost.
#[test]
fn a_flood_of_untraced_packets_is_ignored() {
    require_lab!();
    let net = Pair::new();
    let web = server(&net.server, SocketAddr::new(Pair::SERVER.v4.into(), 80));
    let flood = serve_zeros(&net.server, "10.9.0.2:81", 256 << 20);
    let builder = CaptureProbe::builder(["c0"]).total_size_limit(256 << 20).buffer_size(64 << 20);
    let capture = net.client.run(|| builder.start());
    let sink = sink(&capture);
    let untraced = net.client.spawn(|| {
        let mut stream = TcpStream::connect("10.9.0.2:81").expect("connect");
        let mut chunk = vec![0; 1 << 16];
        while stream.read(&mut chunk).expect("read") > 0 {}
    });
    net.client.block_on(async {
        while !untraced.is_finished() {
            let client = client(&sink).build().unwrap();
            fetch(&client, "http://10.9.0.2/").await;
            client.close().await;
        }
    });
    untraced.join().unwrap();
    flood.join().unwrap();
    let connections = sink.snapshot("all").tcp_conns.len();
    web.ended_blocking(connections);
    let captured = only(sink.captures());
    let port = |packet: &[u8]| [34, 36].map(|at| u16::from_be_bytes([packet[at], packet[at + 1]]));
    assert!(captured.packets.iter().all(|packet| port(&packet.data).contains(&80)));
    let syns = captured.packets.iter().filter(|packet| packet.data[47] == 0x02).count();
    assert!(!captured.truncated, "the limit is larger than what the connections send");
    assert_eq!(syns, connections);
}

#[test]
fn clear_removes_packets_and_counts() {
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

        // Packets of the open connection are still captured.
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

#[test]
fn reading_a_capture_does_not_change_it() {
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
            assert!(now.len() >= before.len() + 2, "the request and the response are already in it");
            assert_eq!(now[..before.len()], before);
            before = now;
        }
    });
}
