//! Tests that a probe leaves neither a thread nor a socket behind.

use std::fs;
use std::time::{Duration, Instant};

use nettrace::TraceSink;
use nettrace::linux::ConntrackProbe;

use super::{client, fetch, probed, server, track};
use test_support::lab::{Ns, Routed};
use test_support::require::require_lab;
use test_support::wait;

/// Returns the number of probe threads and of netfilter sockets in the host's namespace.
fn threads_and_sockets(host: &Ns) -> (usize, usize) {
    let tasks = fs::read_dir("/proc/self/task").expect("threads");
    let ours = tasks.flatten().filter(|task| {
        let link = fs::read_link(task.path().join("ns/net")).unwrap_or_default();
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        link.to_string_lossy().contains(&host.inode().to_string()) && name.trim() == "conntrack-probe"
    });
    let sockets = host.sh("cat /proc/net/netlink");
    // The columns are: address, protocol, port. Port 0 is the kernel's own end.
    let of_netfilter = sockets.lines().filter(|line| {
        let mut columns = line.split_whitespace().skip(1);
        columns.next() == Some("12") && columns.next() != Some("0")
    });
    (ours.count(), of_netfilter.count())
}

/// Returns a host without probe threads and netfilter sockets.
fn host() -> Ns {
    let host = Ns::new();
    assert_eq!(threads_and_sockets(&host), (0, 0));
    host
}

#[test]
fn an_unused_probe_ends_when_it_is_dropped() {
    require_lab!();
    let host = host();
    let probe = host.run(ConntrackProbe::new);
    // A thread that was just started has its name a moment later.
    wait::until_blocking("the thread has its name", || threads_and_sockets(&host) == (1, 1));
    let sink = TraceSink::builder().probe(probe.clone()).build();
    drop(probe);
    assert_eq!(threads_and_sockets(&host), (1, 1));
    drop(sink);
    assert_eq!(threads_and_sockets(&host), (0, 0));
}

#[test]
fn a_probe_ends_when_the_sink_is_closed() {
    require_lab!();
    let net = Routed::new();
    track(&net.client);
    let _server = server(&net, Routed::SERVER.v4.into());
    net.client.block_on(async {
        let (probe, sink) = probed();
        let client = client(&sink).build().unwrap();
        fetch(&client, "http://10.9.2.2/").await;
        assert_eq!(threads_and_sockets(&net.client), (1, 1));
        sink.close();
        assert_eq!(threads_and_sockets(&net.client), (0, 0));
        // Later calls find the probe stopped and do not fail.
        sink.refresh().await;
        fetch(&client, "http://10.9.2.2/").await;
        client.close().await;
        assert_eq!((probe.problems().len(), probe.dropped()), (0, 0));
    });
}

#[test]
fn a_probe_ends_with_the_last_traced_connection() {
    require_lab!();
    let net = Routed::new();
    track(&net.client);
    let _server = server(&net, Routed::SERVER.v4.into());
    net.client.block_on(async {
        let (probe, sink) = probed();
        let client = client(&sink).build().unwrap();
        drop((probe, sink));
        fetch(&client, "http://10.9.2.2/").await;
        assert_eq!(threads_and_sockets(&net.client), (1, 1));
        client.close().await;
        drop(client);
        // The probe queries the last connection again some time after its close.
        let deadline = Instant::now() + Duration::from_secs(20);
        while threads_and_sockets(&net.client) != (0, 0) {
            assert!(Instant::now() < deadline, "the probe still runs");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}
