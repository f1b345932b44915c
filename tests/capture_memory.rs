//! The memory of a capture is bounded, however much traffic there is.
#![cfg(all(target_os = "linux", feature = "capture", feature = "connect", feature = "resolve"))]

use test_support::alloc;

use std::io::Write as _;

use nettrace::TraceSink;
use nettrace::capture::CaptureProbe;
use nettrace::connect::TcpConnector;
use tokio::io::AsyncReadExt as _;

use test_support::lab::Pair;
use test_support::require::require_lab;

#[global_allocator]
static COUNTING: alloc::Counting = alloc::Counting;

const LIMIT: usize = 1 << 20;
const GIBIBYTE: usize = 1 << 30;

/// A client that is captured on two interfaces receives 1 GiB. The captures may take twice the limit, and the packets
/// that are pending 1 MiB.
#[test]
fn capturing_a_gibibyte_takes_bounded_memory() {
    require_lab!();
    let net = Pair::new();
    let listener = net.server.listen("10.9.0.2:80");
    let (sent, mut received) = (vec![0; 1 << 20], vec![0; 1 << 18]);
    let server = net.server.spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        (0..GIBIBYTE / sent.len()).for_each(|_| stream.write_all(&sent).expect("write"));
    });
    // Threads of the captures keep the packets.
    let before = alloc::live_in_process();
    let capture = net.client.run(|| CaptureProbe::builder(["c0", "any"]).start());
    let sink = TraceSink::builder().probe(capture).build();
    let most = net.client.block_on(async {
        let mut stream = TcpConnector::new(&sink).connect("10.9.0.2:80").await.unwrap();
        let (mut sum, mut most) = (0, 0);
        while let len @ 1.. = stream.read(&mut received).await.unwrap() {
            sum += len;
            most = most.max(alloc::live_in_process() - before);
        }
        assert_eq!(sum, GIBIBYTE);
        most
    });
    server.join().unwrap();
    let captures = sink.captures();
    assert!(captures.iter().all(|capture| capture.truncated && capture.dropped_by_limit > 0));
    let kept: usize =
        captures.iter().flat_map(|capture| &capture.packets).map(|packet| packet.data.len()).sum();
    assert!(kept <= LIMIT && kept > LIMIT / 2, "{kept}");
    let bound = (2 * LIMIT + (1 << 20)) as i64;
    assert!(most > kept as i64, "the packets that were kept are counted: {most} bytes");
    assert!(most < bound, "{most} bytes, {bound} allowed");
}
