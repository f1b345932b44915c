//! `nettrace explain`, and what `nettrace get` says below the waterfall of a request that failed.

use crate::{exits_with, run, run_with_input};
use nettrace::explain::Explanation;
use test_support::raw::Refused;

/// A request to a port that nothing listens on, with a terminal's control characters in its URL.
const REFUSED: &str = r#"{"traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": "+9ms",
  "httpRequests": [{"traceID": "r", "reqMethod": "GET", "reqURL": "http://web.test/\u001b[31m", "reqSentAt": "+0ms",
    "endAt": "+9ms", "failure": "connection_refused", "endReason": "failed"}],
  "dials": [{"traceID": "d", "triggeredBy": "r", "dstAddress": "web.test:80", "failure": "connection_refused",
    "dialBeginAt": "+0ms", "dialEndAt": "+9ms", "endReason": "failed"}],
  "tcpConns": [{"traceID": "c", "fromDial": "d", "failure": "connection_refused", "endReason": "failed",
    "handshakeBeginAt": "+1ms", "handshakeEndAt": "+2ms",
    "addrTuple": {"srcIP": "", "srcPort": 0, "dstIP": "192.0.2.1", "dstPort": 80}}]}"#;

#[test]
fn the_cause_is_printed_with_its_evidence() {
    let output = run_with_input(&["explain", "-"], REFUSED.as_bytes());
    exits_with(&output, 0);
    let text = output.stdout;
    assert!(
        text.contains("✗ tcp_refused  192.0.2.1:80 refused the connection: nothing listens there."),
        "{text}"
    );
    assert!(text.contains("c failure: connection_refused at +2ms") && !text.contains('\u{1b}'), "{text}");
    let ascii = run_with_input(&["explain", "-", "--ascii"], REFUSED.as_bytes()).stdout;
    assert!(ascii.is_ascii() && ascii.contains("x tcp_refused"), "{ascii}");
}

#[test]
fn an_explanation_can_be_written_as_json() {
    let output = run_with_input(&["explain", "-", "--json"], REFUSED.as_bytes());
    exits_with(&output, 0);
    let explanation: Explanation = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(explanation.verdicts[0].root().unwrap().code, "tcp_refused");
}

#[test]
fn a_trace_without_findings_says_so() {
    let output = run_with_input(&["explain", "-"], b"{}");
    exits_with(&output, 0);
    assert_eq!(output.stdout, "Nothing was found that went wrong.\n");
}

#[test]
fn an_unreadable_trace_is_an_error() {
    exits_with(&run_with_input(&["explain", "-"], b"[]"), 1);
    exits_with(&run(["explain", "/does/not/exist.json"]), 1);
}

#[test]
fn a_request_that_failed_is_explained_below_its_waterfall() {
    let refused = Refused::on("127.0.0.1:0");
    let output = run(["get", "--trace-only", &format!("http://{}/", refused.addr)]);
    exits_with(&output, 1);
    let (waterfall, explanation) = output.stdout.split_once("\n\n").unwrap_or_default();
    assert!(waterfall.starts_with("GET http://"), "{waterfall}");
    assert!(explanation.starts_with("✗ tcp_refused"), "{explanation}");
}

#[test]
fn two_traces_are_compared() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), REFUSED).unwrap();
    let path = file.path().to_str().unwrap();
    let output = run_with_input(&["diff", path, "-"], REFUSED.as_bytes());
    exits_with(&output, 0);
    assert_eq!(output.stdout, "Nothing has changed.\n");
    let output = run_with_input(&["diff", "-", path, "--json"], b"{}");
    exits_with(&output, 0);
    let changes: Vec<nettrace::diff::Change> = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((changes.len(), &*changes[0].what), (1, "requests"));
    exits_with(&run_with_input(&["diff", "-", "-"], b"{}"), 2);
}
