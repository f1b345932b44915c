//! `nettrace watch`: requests as they end.

use crate::{command, exits_with, run};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    time::Duration,
};
use tempfile::TempDir;
use test_support::{
    process::Daemon,
    web::{Web, reply},
};

const LIMIT: Duration = Duration::from_secs(30);

/// The fields of a request that was answered.
const ANSWERED: &str = r#""respStatusCode": 200, "endReason": "closed""#;
/// The fields of a request that failed.
const RESET: &str = r#""failure": "connection_reset", "endReason": "failed""#;

fn request(number: usize, end: &str) -> String {
    format!(
        r#"{{"traceID": "tid-{number}", "reqMethod": "GET", "reqURL": "http://shop.test/{number}",
        "reqSentAt": "+{number}ms", "endAt": "+{}ms", {end}}}"#,
        number + 5
    )
    .replace('\n', "")
}

fn trace(requests: &[String]) -> String {
    format!(r#"{{"traceBeginAt": "2026-12-01T05:00:00Z", "httpRequests": [{}]}}"#, requests.join(", "))
}

/// Appends text to a file, as a store does.
fn append(file: &Path, text: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(file).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn watch(source: &str, options: &[&str]) -> Daemon {
    let args = ["watch", source, "--interval", "20ms"].into_iter().chain(options.iter().copied());
    Daemon::spawn(command(args)).unwrap()
}

#[test]
fn slices_are_printed_as_they_are_written() {
    let directory = TempDir::new().unwrap();
    let file = |number: usize| {
        directory.path().join(format!("nettrace-20261201T05000{number}Z-7-aaaaaa-000{number}.jsonl"))
    };
    for number in 0..20 {
        append(&file(0), &format!("{}\n", trace(&[request(number, ANSWERED)])));
    }
    let watching = watch(directory.path().to_str().unwrap(), &["--last", "2"]);
    let line = watching.line("/19", LIMIT).unwrap();
    assert_eq!(
        line,
        "2026-12-01T05:00:00.019Z · GET http://shop.test/19 · 200 · blocked 5.0 ms · total 5.0 ms"
    );
    assert_eq!(watching.log().len(), 2);

    // Half a line is not printed before the rest has come. A file that is begun meanwhile is read, too.
    let (half, rest) = (trace(&[request(20, RESET)]), "\n");
    let (beginning, end) = half.split_at(half.len() / 2);
    append(&file(0), beginning);
    append(&file(1), &format!("no trace\n{{\n{}\n", trace(&[request(21, ANSWERED)])));
    watching.line("/21", LIMIT).unwrap();
    append(&file(0), &format!("{end}{rest}"));
    let line = watching.line("/20", LIMIT).unwrap();
    assert!(
        line.ends_with("✗ GET http://shop.test/20 · connection_reset · blocked 5.0 ms · total 5.0 ms"),
        "{line}"
    );
    assert!(watching.line("a line is not a trace", LIMIT).unwrap().starts_with("nettrace: "));
    // The oldest file is removed.
    fs::remove_file(file(0)).unwrap();
    append(&file(1), &format!("{}\n", trace(&[request(22, ANSWERED)])));
    watching.line("/22", LIMIT).unwrap();
    let printed = watching.log().iter().filter(|line| line.contains("GET")).count();
    assert_eq!(printed, 5, "{:?}", watching.log());
}

#[test]
fn requests_of_a_page_are_printed_once() {
    let asked = std::cell::Cell::new(0);
    let page = Web::start(async move |_| {
        asked.set(asked.get() + 1);
        // One request more each time, the newest of which is still running.
        let mut requests: Vec<_> = (0..asked.get()).map(|number| request(number, ANSWERED)).collect();
        requests.push(request(asked.get(), r#""reqContentLen": 0"#).replace(r#""endAt""#, r#""unknown""#));
        reply(trace(&requests))
    });
    let watching = watch(&page.url("/trace.json"), &["--host", "shop.test"]);
    watching.line("/5 ", LIMIT).unwrap();
    let lines = watching.log();
    for number in 0..5 {
        let count = lines.iter().filter(|line| line.contains(&format!("shop.test/{number} "))).count();
        assert_eq!(count, 1, "{number}: {lines:?}");
    }
}

/// The program ends and is started again: its identifiers are the same.
#[test]
fn a_program_that_is_restarted_is_watched_on() {
    let begun = |begin: &str| trace(&[request(1, ANSWERED)]).replace("2026-12-01T05", begin);
    let first = Web::start(async move |_| reply(begun("2026-12-01T05")));
    let addr = first.addr();
    let watching = watch(&first.url("/trace.json"), &[]);
    watching.line("2026-12-01T05:00:00.001Z", LIMIT).unwrap();
    drop(first);
    watching.line("trying again", LIMIT).unwrap();
    let listener = std::net::TcpListener::bind(addr).unwrap();
    let _second = Web::on(listener, None, async move |_| reply(begun("2026-12-01T06")));
    watching.line("2026-12-01T06:00:00.001Z", LIMIT).unwrap();
}

#[test]
fn requests_are_chosen_by_options() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("chosen.jsonl");
    append(&file, &format!("{}\n", trace(&[request(1, ANSWERED), request(2, RESET), request(3, ANSWERED)])));
    let watching = watch(file.to_str().unwrap(), &["--failed"]);
    watching.line("/2 ", LIMIT).unwrap();
    append(&file, &format!("{}\n", trace(&[request(4, ANSWERED), request(5, RESET)])));
    watching.line("/5 ", LIMIT).unwrap();
    let of_requests = |line: &&String| line.contains("GET");
    assert_eq!(watching.log().iter().filter(of_requests).count(), 2, "{:?}", watching.log());
}

#[test]
fn a_source_that_cannot_be_read_is_an_error() {
    let output = run(["watch", "/nonexistent.jsonl"]);
    exits_with(&output, 1);
    assert!(output.stderr.contains("cannot read /nonexistent.jsonl: "), "{}", output.stderr);
    let output = run(["watch", "http://127.0.0.1:1/trace.json"]);
    exits_with(&output, 1);
    assert!(output.stderr.contains("cannot read http://127.0.0.1:1/trace.json: "), "{}", output.stderr);
}
