//! `nettrace export`.

use crate::{exits_with, reason, run, run_with_input};
use serde_json::Value;

const TRACE: &str = r#"{"traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": "+9ms",
  "httpRequests": [{"traceID": "r", "reqMethod": "GET", "reqURL": "http://web.test/", "reqSentAt": "+0ms",
    "endAt": "+9ms", "failure": "connection_refused", "endReason": "failed"}],
  "dials": [{"traceID": "d", "triggeredBy": "r", "dstAddress": "web.test:80", "failure": "connection_refused",
    "dialBeginAt": "+0ms", "dialEndAt": "+9ms", "endReason": "failed"}],
  "tcpConns": [{"traceID": "c", "fromDial": "d", "failure": "connection_refused", "endReason": "failed",
    "handshakeBeginAt": "+1ms", "handshakeEndAt": "+2ms",
    "addrTuple": {"srcIP": "", "srcPort": 0, "dstIP": "192.0.2.1", "dstPort": 80}}]}"#;

#[track_caller]
fn line(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn spans_are_written_as_lines() {
    let options = ["--service-name", "shop", "--resource", "host.name=web=1"];
    let output =
        run_with_input(&[&["export", "-", "--to", "otlp-json"][..], &options].concat(), TRACE.as_bytes());
    exits_with(&output, 0);
    let line = line(&output.stdout);
    let attributes = &line["resourceSpans"][0]["resource"]["attributes"];
    assert_eq!(attributes[0]["value"]["stringValue"], "shop");
    assert_eq!(attributes[1]["value"]["stringValue"], "web=1");
    let spans = line["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    let request = spans.iter().find(|span| span["name"] == "GET").unwrap();
    assert_eq!(request["status"]["code"], 2);
    assert_eq!(request["events"][0]["name"], "nettrace.finding");
}

#[test]
fn findings_can_be_left_out() {
    let output = run_with_input(&["export", "-", "--to", "otlp-json", "--no-findings"], TRACE.as_bytes());
    exits_with(&output, 0);
    assert!(!output.stdout.contains("nettrace.finding"), "{}", output.stdout);
}

#[test]
fn spans_are_written_to_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("spans.jsonl");
    let path = file.to_str().unwrap();
    let output = run_with_input(&["export", "-", "--to", "otlp-json", "-o", path], TRACE.as_bytes());
    exits_with(&output, 0);
    assert_eq!(output.stdout, "");
    let written = std::fs::read_to_string(&file).unwrap();
    line(&written);
    // A trace that cannot be read leaves the file as it is.
    let output = run_with_input(&["export", "-", "--to", "otlp-json", "-o", path], b"[]");
    exits_with(&output, 1);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), written);
}

#[test]
fn what_cannot_be_exported_is_named() {
    let output = run_with_input(&["export", "-", "--to", "otlp-json"], br#"{"httpRequests": [{}]}"#);
    exits_with(&output, 1);
    let reason = reason(&output);
    assert!(reason.starts_with("cannot export standard input: the trace has no absolute begin"), "{reason}");

    let output = run(["export", "/does/not/exist.json", "--to", "otlp-json"]);
    exits_with(&output, 1);
    let output = run_with_input(&["export", "-", "--to", "otlp-json", "-o", "/does/not/exist"], b"{}");
    exits_with(&output, 2);
    assert!(crate::reason(&output).starts_with("cannot write /does/not/exist: "), "{}", output.stderr);
    for wrong in [
        &["export", "-"][..],
        &["export", "-", "--to", "csv"],
        &["export", "-", "--to", "otlp-json", "--resource", "x"],
    ] {
        exits_with(&run_with_input(wrong, b"{}"), 2);
    }
}
