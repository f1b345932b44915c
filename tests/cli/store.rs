//! Stores of slices: a file of JSON Lines, or a directory of them.

use crate::{exits_with, reason, run};
use std::{fs, path::Path};
use tempfile::TempDir;

/// A request to a port that nothing listens on.
fn refused(begin: &str) -> String {
    let slice = serde_json::json!({
        "traceBeginAt": begin, "traceEndAt": "+9ms",
        "httpRequests": [{"traceID": "tid-1", "reqMethod": "GET", "reqURL": "http://web.test/", "reqSentAt": "+0ms",
            "endAt": "+9ms", "failure": "connection_refused", "endReason": "failed"}],
        "dials": [{"traceID": "tid-2", "triggeredBy": "tid-1", "dstAddress": "web.test:80",
            "failure": "connection_refused", "dialBeginAt": "+0ms", "dialEndAt": "+9ms", "endReason": "failed"}],
        "tcpConns": [{"traceID": "tid-3", "fromDial": "tid-2", "failure": "connection_refused",
            "endReason": "failed", "handshakeBeginAt": "+1ms", "handshakeEndAt": "+2ms",
            "addrTuple": {"srcIP": "", "srcPort": 0, "dstIP": "192.0.2.1", "dstPort": 80}}],
    });
    format!("{slice}\n")
}

/// Returns a directory with files of two processes, and one of something else.
fn store() -> TempDir {
    let directory = TempDir::new().unwrap();
    let put = |name: &str, content: &str| fs::write(directory.path().join(name), content).unwrap();
    put("nettrace-20261201T050000Z-7-aaaaaa-0000.jsonl", &refused("2026-12-01T05:00:00Z"));
    put("nettrace-20261201T050100Z-8-bbbbbb-0000.jsonl", &refused("2026-12-01T05:01:00Z"));
    put("notes.txt", "not a trace");
    directory
}

fn shown(command: &str, path: &Path, more: &[&str]) -> String {
    let args = [command.as_ref(), path.as_os_str()].into_iter().chain(more.iter().map(|arg| arg.as_ref()));
    let output = run(args);
    exits_with(&output, 0);
    assert_eq!(output.stderr, "");
    output.stdout
}

#[test]
fn a_directory_is_read_as_one_trace() {
    let store = store();
    let summary = shown("show", store.path(), &["--summary"]);
    assert!(summary.starts_with("2 requests to 1 host · 2 failed"), "{summary}");
    let one = shown("show", store.path(), &["--request", "8-bbbbbb.tid-1"]);
    assert!(one.contains("8-bbbbbb.tid-1") && !one.contains("aaaaaa"), "{one}");
    let explained = shown("explain", store.path(), &[]);
    assert!(explained.contains("✗ tcp_refused  2 times"), "{explained}");
}

#[test]
fn files_are_compared() {
    let store = store();
    let mut files: Vec<_> = fs::read_dir(store.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(shown("diff", &files[0], &[files[1].to_str().unwrap()]), "Nothing has changed.\n");
    let empty = store.path().join("empty.jsonl");
    fs::write(&empty, "{}\n").unwrap();
    let changes = shown("diff", &empty, &[files[0].to_str().unwrap()]);
    assert_eq!(changes, "web.test: requests: none → some\n");
}

#[test]
fn a_line_that_was_cut_off_is_a_warning() {
    let store = store();
    let cut = store.path().join("nettrace-20261201T050200Z-9-cccccc-0000.jsonl");
    let line = refused("2026-12-01T05:02:00Z");
    fs::write(&cut, format!("{line}{}", &line[..100])).unwrap();
    let output = run(["show".as_ref(), store.path().as_os_str(), "--summary".as_ref()]);
    exits_with(&output, 0);
    assert!(output.stdout.starts_with("3 requests"), "{}", output.stdout);
    assert_eq!(
        reason(&output),
        format!("{}:2: left out, since the end of the line is missing", cut.display())
    );
}

#[test]
fn an_unreadable_store_is_an_error() {
    let store = store();
    let broken = store.path().join("broken.jsonl");
    fs::write(&broken, "{}\n{\"dials\": [{\"traceID\": 1}]}\n").unwrap();
    for path in [store.path(), &broken] {
        let output = run(["show".as_ref(), path.as_os_str()]);
        exits_with(&output, 1);
        assert!(reason(&output).starts_with(&format!("{}:2:", broken.display())), "{}", output.stderr);
    }
    let output = run(["explain", "/does/not/exist.jsonl"]);
    exits_with(&output, 1);
    assert!(
        reason(&output).starts_with("cannot read /does/not/exist.jsonl: No such file"),
        "{}",
        output.stderr
    );
    let empty = TempDir::new().unwrap();
    let output = run(["diff".as_ref(), empty.path().as_os_str(), broken.as_os_str()]);
    exits_with(&output, 1);
    assert!(reason(&output).ends_with("it has no file whose name ends in .jsonl"), "{}", output.stderr);
}
