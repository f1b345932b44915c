//! Tests when the kernel is queried.

use std::time::{Duration, Instant};

use nettrace::connect::TcpConnector;
use nettrace::record::NetTrace;
use nettrace::{Failure, TraceSink};

use super::{client, conn_to, entry, fetch, probed, refreshed, server, track};
use test_support::check;
use test_support::lab::{Delay, Routed};
use test_support::require::require_lab;

/// Waits until the trace satisfies `predicate`, without a refresh.
async fn until(sink: &TraceSink, predicate: impl Fn(&NetTrace) -> bool) -> NetTrace {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let trace = sink.snapshot("on the way");
        if predicate(&trace) {
            return trace;
        }
        assert!(Instant::now() < deadline, "{trace:#?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn state(trace: &NetTrace) -> Option<&str> {
    Some(conn_to(trace, 80).conntrack.as_ref()?.tcp_state.as_str())
}

#[test]
fn the_kernel_is_queried_after_connect_and_after_close() {
    require_lab!();
    let net = Routed::new();
    track(&net.client);
    let _server = server(&net, Routed::SERVER.v4.into());
    net.client.block_on(async {
        let (_, sink) = probed();
        let client = client(&sink).build().unwrap();
        fetch(&client, "http://10.9.2.2/").await;
        let open = until(&sink, |trace| state(trace) == Some("established")).await;
        client.close().await;
        let closed = until(&sink, |trace| state(trace) == Some("time-wait")).await;
        let [open, closed] = [&open, &closed].map(|trace| entry(conn_to(trace, 80)));
        assert_eq!(open.id, closed.id);
        assert!(open.captured_at < closed.captured_at && open.packets_recv < closed.packets_recv);
        check::finished(&sink.snapshot("all"));
    });
}

#[test]
fn closing_the_sink_queries_the_kernel_a_last_time() {
    require_lab!();
    let net = Routed::new();
    track(&net.client);
    let _server = server(&net, Routed::SERVER.v4.into());
    net.client.block_on(async {
        let (_, sink) = probed();
        let client = client(&sink).build().unwrap();
        fetch(&client, "http://10.9.2.2/").await;
        sink.close();
        let trace = sink.snapshot("closed");
        assert_eq!(state(&trace), Some("established"));
        check::finished(&trace);
    });
}

#[test]
fn connections_with_the_same_addresses_have_different_entries() {
    require_lab!();
    let net = Routed::new();
    track(&net.client);
    net.client.port_range(40_000, 40_000);
    let listener = net.server.listen("10.9.2.2:80");
    net.client.block_on(async {
        let (_, sink) = probed();
        for _ in 0..2 {
            // The port stays in use until the server has acknowledged the end of the previous connection.
            let stream = loop {
                match TcpConnector::new(&sink).connect("10.9.2.2:80").await {
                    Ok(stream) => break stream,
                    Err(error) => assert_eq!(error.failure(), Failure::AddressNotAvailable),
                }
            };
            let (peer, _) = listener.accept().unwrap();
            sink.refresh().await;
            // The side that closes first keeps the port in use (TIME_WAIT), so the server closes first.
            drop(peer);
            stream.get_ref().readable().await.unwrap();
            assert_eq!(stream.get_ref().try_read(&mut [0]).unwrap(), 0);
            drop(stream);
            sink.refresh().await;
        }
        let trace = refreshed(&sink).await;
        let conns: Vec<_> = trace.tcp_conns.iter().filter(|conn| conn.connected).collect();
        let [first, second] = conns[..] else { panic!("two connections") };
        assert_eq!(first.addr_tuple, second.addr_tuple);
        assert_ne!(entry(first).start_at, entry(second).start_at);
        assert!(entry(first).captured_at < second.handshake_begin_at, "{first:#?}");
    });
}

/// The connections are short, and many end between two queries.
#[test]
fn each_of_many_connections_has_its_entry() {
    require_lab!();
    let net = Routed::new();
    track(&net.client);
    let listener = net.server.listen("10.9.2.2:80");
    net.client.block_on(async {
        let (probe, sink) = probed();
        let connector = TcpConnector::new(&sink);
        for _ in 0..500 {
            let stream = connector.connect("10.9.2.2:80").await.unwrap();
            let (peer, _) = listener.accept().unwrap();
            drop((stream, peer));
        }
        let trace = refreshed(&sink).await;
        assert_eq!((trace.tcp_conns.len(), probe.dropped()), (500, 0));
        for conn in &trace.tcp_conns {
            assert_eq!(entry(conn).addr_orig, conn.addr_tuple);
            assert!(entry(conn).packets_sent > 1 && entry(conn).packets_recv > 0, "{conn:#?}");
        }
        assert_eq!(probe.problems(), []);
    });
}

/// A round trip takes 30 ms, so the peer's FIN arrives after the close.
#[test]
fn a_refresh_after_the_close_waits_for_the_last_packets() {
    require_lab!();
    let net = Routed::with_delay(Delay::All(Duration::from_millis(15)));
    track(&net.client);
    let _server = server(&net, Routed::SERVER.v4.into());
    net.client.block_on(async {
        let (_, sink) = probed();
        let client = client(&sink).build().unwrap();
        fetch(&client, "http://10.9.2.2/").await;
        client.close().await;
        let trace = refreshed(&sink).await;
        assert_eq!(state(&trace), Some("time-wait"));
        let later = refreshed(&sink).await;
        let counts = |trace| {
            let entry = entry(conn_to(trace, 80));
            [entry.packets_sent, entry.packets_recv, entry.bytes_sent, entry.bytes_recv]
        };
        assert_eq!(counts(&trace), counts(&later), "the first refresh counted every packet");
    });
}

#[test]
fn a_refresh_gives_up_on_a_peer_that_does_not_close() {
    require_lab!();
    let net = Routed::new();
    track(&net.client);
    let listener = net.server.listen("10.9.2.2:80");
    net.client.block_on(async {
        let (_, sink) = probed();
        let stream = TcpConnector::new(&sink).connect("10.9.2.2:80").await.unwrap();
        let _peer = listener.accept().unwrap();
        drop(stream);
        let trace = refreshed(&sink).await;
        // conntrack's states after the client's FIN was seen, or acknowledged.
        assert!(matches!(state(&trace), Some("fin-wait" | "close-wait")), "{trace:#?}");
        check::finished(&trace);
    });
}
