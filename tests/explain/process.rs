//! Causes in this process.

use crate::{client, quoted, root, trace_of};
use nettrace::{NetTrace, TraceSink};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{fs::File, iter, process::Command, time::Duration};
use test_support::process;

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
