//! Causes in this process.

use crate::{client, explained, only_verdict, quoted, root, trace_of};
use futures_util::future::join_all;
use nettrace::{
    NetTrace, TraceSink,
    explain::{Finding, Outcome, Severity},
    linux::TimestampingProbe,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    fs::File,
    iter,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use test_support::{
    process,
    raw::Server,
    wait,
    web::{ReceivedRequest, Web, reply},
};
use tokio::sync::Semaphore;

/// In a process of its own, because the limit is that of the whole process.
#[test]
fn no_file_descriptor_is_left() {
    let mut test = Command::new(std::env::current_exe().expect("this program"));
    test.args(["--exact", "process::helper_no_file_descriptor_is_left", "--ignored", "--nocapture"]);
    let output = process::run(test, Duration::from_secs(60)).success();
    assert!(output.contains("1 passed"), "{output}");
}

#[tokio::test]
#[ignore = "no_file_descriptor_is_left runs it in a process of its own"]
async fn helper_no_file_descriptor_is_left() {
    let dialed = without_descriptors("http://127.0.0.1:9/").await;
    let found = root(&dialed, "process_descriptors_exhausted");
    assert!(found.sentence.starts_with("The process had no file descriptor left"), "{}", found.sentence);
    assert!(quoted(&found, "dialErr").contains("Too many open files"), "{found}");
    root(&without_descriptors("http://web.test/").await, "process_descriptors_exhausted");
}

async fn without_descriptors(url: &str) -> NetTrace {
    let sink = TraceSink::new();
    let client =
        client(&sink).nameservers(["127.0.0.1:9".parse::<std::net::SocketAddr>().unwrap()]).build().unwrap();
    let usual = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(200), ..usual }).unwrap();
    let _all = Vec::from_iter(iter::from_fn(|| File::open("/dev/null").ok()));
    let trace = trace_of(&sink, &client, url).await;
    setrlimit(Resource::Nofile, usual).unwrap();
    trace
}

fn stamped() -> TraceSink {
    TraceSink::builder().probe(TimestampingProbe::new().every(1)).build()
}

/// For how long the thread of the runtime is blocked.
const BLOCKED: Duration = Duration::from_millis(500);

/// Makes quick requests, and then some at the same time, whose responses come while the thread of the runtime is
/// blocked.
async fn blocked_during(count: usize, sink: &TraceSink) -> NetTrace {
    let (waiting, may_answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (arrived, permits) = (waiting.clone(), may_answer.clone());
    let web = Web::start(async move |request: ReceivedRequest| {
        if request.path() == "/held" {
            arrived.fetch_add(1, Relaxed);
            permits.acquire().await.unwrap().forget();
        }
        reply("hello")
    });
    let client = client(sink).build().unwrap();
    let fetch =
        async |path: &str| client.get(web.url(path)).await.unwrap().into_body().bytes().await.unwrap();
    for _ in 0..5 {
        fetch("/").await;
    }
    let block = async {
        wait::until("the requests", || waiting.load(Relaxed) == count).await;
        may_answer.add_permits(count);
        std::thread::sleep(BLOCKED); // this is what the test is about
    };
    tokio::join!(join_all((0..count).map(|_| fetch("/held"))), block);
    client.close().await;
    sink.snapshot("")
}

/// Returns the roots of all verdicts.
#[track_caller]
fn roots(trace: &NetTrace) -> Vec<Finding> {
    let verdicts = explained(trace).verdicts;
    verdicts.iter().for_each(|verdict| println!("{verdict}"));
    verdicts.iter().filter_map(|verdict| verdict.root().cloned()).collect()
}

#[track_caller]
fn codes(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.code.as_str()).collect()
}

#[tokio::test]
async fn a_runtime_that_is_blocked_reads_no_connection() {
    let trace = blocked_during(2, &stamped()).await;
    let found = roots(&trace);
    assert_eq!(codes(&found), ["process_runtime_blocked"; 2]);
    assert!(found[0].sentence.starts_with("The process read nothing for "), "{}", found[0]);
    let of_conns: std::collections::HashSet<_> =
        found[0].evidence.iter().map(|evidence| evidence.record.as_str()).collect();
    assert_eq!(of_conns.len(), 2, "both connections are evidence: {}", found[0]);
    let (received, read) =
        (quoted(&found[0], "kernelTimes.reads.receivedAt"), quoted(&found[0], "kernelTimes.reads.readAt"));
    assert_ne!(received, read);
    let all: Vec<_> = explained(&trace).verdicts.iter().map(|verdict| verdict.findings.len()).collect();
    assert_eq!(all, [1, 1], "the server is not to blame");
}

#[tokio::test]
async fn a_response_that_is_read_late() {
    let found = roots(&blocked_during(1, &stamped()).await);
    assert_eq!(codes(&found), ["process_reads_late"]);
    assert_eq!(found[0].severity, Severity::Degraded);
    assert!(found[0].sentence.ends_with(" after the kernel had it."), "{}", found[0]);
    assert!(found[0].not_seen.is_empty(), "all connections are sampled: {}", found[0]);
}

#[tokio::test]
async fn what_was_not_sampled_is_not_seen() {
    let sink = TraceSink::builder().probe(TimestampingProbe::new().every(2)).build();
    let found = roots(&blocked_during(2, &sink).await);
    let found =
        found.iter().find(|found| found.code == "process_reads_late").expect("of the first connection");
    assert_eq!(found.not_seen.len(), 1);
    assert!(found.not_seen[0].contains("TimestampingProbe"), "{found}");
}

/// Without the stamps nothing tells this process from the server.
#[tokio::test]
async fn without_stamps_the_server_is_suspected() {
    assert_eq!(codes(&roots(&blocked_during(1, &TraceSink::new()).await)), ["http_server_slow"]);
}

#[tokio::test]
async fn a_server_that_thinks_is_named_with_the_stamps_as_evidence() {
    let sink = stamped();
    let web = Web::start(async |request: ReceivedRequest| {
        if request.path() == "/slow" {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        reply("hello")
    });
    let client = client(&sink).build().unwrap();
    for path in ["/", "/", "/", "/", "/slow"] {
        client.get(web.url(path)).await.unwrap().into_body().bytes().await.unwrap();
    }
    client.close().await;
    let found = root(&sink.snapshot(""), "http_server_slow");
    assert_ne!(quoted(&found, "kernelTimes.writes.ackedAt"), quoted(&found, "kernelTimes.reads.receivedAt"));
}

#[tokio::test]
async fn a_server_that_never_answers_has_acknowledged_the_request() {
    let (sink, server) = (stamped(), Server::start(async |mut conn| conn.read_to_end().await));
    let client = client(&sink).timeout(Duration::from_millis(300)).build().unwrap();
    let trace = trace_of(&sink, &client, &format!("http://{}/", server.addr())).await;
    assert_eq!(only_verdict(&trace).outcome, Outcome::TimedOut);
    let found = root(&trace, "http_server_slow");
    assert_eq!(
        quoted(&found, "kernelTimes.writes.sentBytes"),
        trace.tcp_conns[0].total_sent_bytes.to_string()
    );
    assert!(!quoted(&found, "kernelTimes.writes.ackedAt").is_empty());
}
