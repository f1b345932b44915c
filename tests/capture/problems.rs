//! An interface or privilege that is missing is reported, and everything else works.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use nettrace::TraceSink;
use nettrace::capture::{CaptureProbe, ProblemKind};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use super::{client, fetch, only, server};
use test_support::lab::Pair;
use test_support::process;
use test_support::require::require_lab;
use test_support::wait;

#[test]
fn a_missing_interface_is_reported_and_the_others_work() {
    require_lab!();
    let net = Pair::new();
    let _web = server(&net.server, SocketAddr::new(Pair::SERVER.v4.into(), 80));
    let capture = net.client.run(|| CaptureProbe::builder(["nope0", "c0"]).start());
    let problems = capture.problems();
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].interface.as_str(), &problems[0].kind), ("nope0", &ProblemKind::NoSuchInterface));
    let text = problems[0].to_string();
    assert!(text.starts_with("no packets of nope0: no such interface; `ip link`"), "{text}");
    let sink = TraceSink::builder().probe(capture).build();
    net.client.block_on(async {
        let client = client(&sink).build().unwrap();
        fetch(&client, "http://10.9.0.2/").await;
        client.close().await;
    });
    assert_eq!(sink.capture_problems(), problems);
    let captured = only(sink.captures());
    assert!(captured.interface_name == "c0" && captured.packets.len() >= 8);
}

#[test]
fn a_missing_privilege_is_reported() {
    require_lab!();
    let net = Pair::new();
    let _web = server(&net.server, SocketAddr::new(Pair::SERVER.v4.into(), 80));
    let capture = net.client.run(|| {
        // Capabilities are per thread, so other tests keep them.
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::NET_RAW);
        set_capabilities(None, sets).unwrap();
        CaptureProbe::builder(["c0", "any"]).start()
    });
    let problems = capture.problems();
    assert!(problems.iter().all(|problem| problem.kind == ProblemKind::NotPermitted), "{problems:?}");
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert!(lines[0].starts_with("no packets of c0: not permitted; run it as root, or"), "{lines:?}");
    assert!(lines[1].contains("setcap cap_net_raw+ep"), "{lines:?}");
    let sink = TraceSink::builder().probe(capture).build();
    net.client.block_on(async {
        let client = client(&sink).build().unwrap();
        assert_eq!(fetch(&client, "http://10.9.0.2/").await, b"hello");
    });
    assert_eq!(sink.captures(), []);
    assert_eq!(sink.snapshot("").http_requests.len(), 1);
}

#[test]
fn an_invalid_filter_is_reported() {
    require_lab!();
    let net = Pair::new();
    let capture = net.client.run(|| CaptureProbe::builder(["c0"]).filter("port port").start());
    let problems = capture.problems();
    assert!(matches!(problems[0].kind, ProblemKind::Filter(_)), "{problems:?}");
    assert!(problems[0].to_string().contains("unusable filter: "), "{problems:?}");
}

#[test]
fn an_interface_that_is_deleted_is_reported() {
    require_lab!();
    let net = Pair::new();
    let _web = server(&net.server, SocketAddr::new(Pair::SERVER.v4.into(), 80));
    let capture = net.client.run(|| CaptureProbe::builder(["c0", "lo"]).start());
    let sink = TraceSink::builder().probe(capture).build();
    net.client.block_on(async {
        let client = client(&sink).build().unwrap();
        fetch(&client, "http://10.9.0.2/").await;
    });
    net.client.sh("ip link delete c0");
    wait::until_blocking("a problem", || !sink.capture_problems().is_empty());
    let problems = sink.capture_problems();
    assert_eq!((problems[0].interface.as_str(), &problems[0].kind), ("c0", &ProblemKind::WentDown));
    let captures = sink.captures();
    assert_eq!(captures.len(), 2);
    assert!(captures[0].packets.len() >= 5, "earlier packets are kept");
}

#[test]
fn an_interface_that_is_down_is_reported() {
    require_lab!();
    let net = Pair::new();
    net.client.sh("ip link set c0 down");
    let capture = net.client.run(|| CaptureProbe::builder(["c0"]).start());
    let lines: Vec<_> = capture.problems().iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["no packets of c0: the interface is down, or went away"]);
}

/// The captured packets remain readable.
#[test]
fn threads_and_descriptors_end_with_the_sink() {
    require_lab!();
    // Runs in a process of its own, because other tests have threads and descriptors, too.
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child.args([
        "--exact",
        "problems::helper_threads_and_descriptors_end_with_the_sink",
        "--ignored",
        "--nocapture",
    ]);
    let output = process::run(child, Duration::from_secs(60)).success();
    assert!(output.contains("1 passed"), "{output}");
}

#[test]
#[ignore = "threads_and_descriptors_end_with_the_sink runs it in a process of its own"]
fn helper_threads_and_descriptors_end_with_the_sink() {
    let net = Pair::new();
    let web = server(&net.server, SocketAddr::new(Pair::SERVER.v4.into(), 80));
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let threads = || {
        let names = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = names.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.starts_with("nettrace-captur")).count()
    };
    let start = || net.client.run(|| CaptureProbe::builder(["c0", "lo"]).start());
    let capture = || {
        let sink = TraceSink::builder().probe(start()).build();
        // A new thread has its name only once it runs.
        wait::until_blocking("one thread of the capture", || threads() == 1);
        net.client.block_on(async {
            let client = client(&sink).build().unwrap();
            fetch(&client, "http://10.9.0.2/").await;
            client.close().await;
        });
        sink.close();
        sink.close();
        sink
    };
    drop(capture());
    web.ended_blocking(1);
    let before = descriptors(); // including descriptors that the runtime keeps open

    let sink = capture();
    web.ended_blocking(2);
    assert_eq!((threads(), descriptors()), (0, before));
    let captured = sink.captures();
    assert!(captured[0].packets.len() >= 8);
    assert_eq!(sink.captures(), captured);

    drop(TraceSink::builder().probe(start()).build());
    assert_eq!((threads(), descriptors()), (0, before), "dropping an unclosed sink ends them, too");
}
