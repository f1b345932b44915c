//! `nettrace show`.

use crate::{exits_with, parse, reason, run, run_with_input};
use std::{fs, path::Path};
use test_support::raw::Server;

fn data() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data"))
}

#[test]
fn every_trace_of_the_go_package_can_be_shown() {
    let mut seen = 0;
    for entry in fs::read_dir(data().join("peer-json")).unwrap() {
        let path = entry.unwrap().path();
        let output = run(["show".as_ref(), path.as_os_str()]);
        exits_with(&output, 0);
        assert_eq!(output.stderr, "");
        let trace = parse(&fs::read_to_string(&path).unwrap());
        assert!(output.stdout.starts_with(&trace.description), "{}", output.stdout);
        for request in trace.http_requests.iter() {
            assert!(output.stdout.contains(&format!("{} {}", request.req_method, request.req_url)));
        }
        seen += 1;
    }
    assert!(seen >= 10);
}

#[test]
fn a_trace_can_be_read_from_standard_input() {
    let json = fs::read(data().join("everything.json")).unwrap();
    let output = run_with_input(&["show", "-"], &json);
    exits_with(&output, 0);
    assert!(output.stdout.contains("GET https://bad.test/ · ✗ ssl_unknown_authority"));
    let ascii = run_with_input(&["show", "-", "--ascii"], &json);
    assert!(ascii.stdout.is_ascii() && ascii.stdout.contains("x ssl_unknown_authority"));
}

#[test]
fn header_fields_are_shown_on_request() {
    let file = data().join("peer-json/x-post.json");
    let with = run(["show".as_ref(), file.as_os_str(), "--headers".as_ref()]).success();
    assert!(with.contains("> Content-Type: text/plain"));
    assert!(!run(["show".as_ref(), file.as_os_str()]).success().contains("Content-Type"));
}

#[test]
fn an_invalid_trace_is_reported_with_its_position() {
    let show = |json: &[u8]| {
        let output = run_with_input(&["show", "-"], json);
        exits_with(&output, 1);
        assert_eq!((output.stdout.as_str(), output.stderr.lines().count()), ("", 1), "{}", output.stderr);
        reason(&output).to_owned()
    };
    assert_eq!(show(b""), "standard input:1:0: EOF while parsing a value");
    assert_eq!(
        show(b"{\n \"tcpConns\": [\n  {\"addrTuple\": {\"srcPort\": 65536}}]}"),
        "standard input:3:33: tcpConns[0].addrTuple.srcPort: invalid value: integer `65536`, expected u16"
    );
    assert!(
        show(b"{\"dials\": [{\"dialBeginAt\": \"soon\"}]}").contains("dials[0].dialBeginAt: invalid value")
    );
    assert!(show(b"not json").starts_with("standard input:1:2: expected ident"));
    assert!(show(b"{} {}").contains(":1:4: trailing characters"));
    assert!(show(b"[]").contains(":1:1: a list"));
    assert!(show(&[b'['; 100_000]).contains(":1:1: a list"));
    let deep: Vec<u8> = [&b"{\"x\":"[..], &[b'['; 100_000]].concat();
    assert!(show(&deep).contains("EOF while parsing"));
    assert!(show(b"{\"description\": \"\xff\"}").contains("standard input:1:"));
    // A file must not be able to control the terminal.
    let hostile = show(b"{\"dials\": [{\"dialBeginAt\": \"\\u001b]0;owned\\u0007\"}]}");
    assert!(!hostile.contains('\x1b') && !hostile.contains('\x07'), "{hostile:?}");
}

#[test]
fn an_unreadable_file_is_reported() {
    let output = run(["show", "/does/not/exist.json"]);
    exits_with(&output, 1);
    assert!(reason(&output).starts_with("cannot read /does/not/exist.json: No such file"));
    let output = run(["show", "/"]);
    exits_with(&output, 1);
    assert!(reason(&output).starts_with("cannot read /: "));
}

#[test]
fn a_trace_can_be_read_from_a_url() {
    let json = fs::read_to_string(data().join("everything.json")).unwrap();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{json}", json.len());
    let server = Server::answering(answer.leak().as_bytes());
    let url = format!("http://joe:secret@{}/debug/nettrace/trace.json", server.addr());
    let output = run(["show", &url]);
    exits_with(&output, 0);
    let file = run(["show".as_ref(), data().join("everything.json").as_os_str()]).success();
    assert_eq!(output.stdout, file);
    assert!(run(["explain", &url]).success().contains("GET https://bad.test/"));
    let seen = server.ended_blocking(2);
    let request = String::from_utf8(seen[0].received.clone()).unwrap();
    assert!(request.contains("authorization: Basic am9lOnNlY3JldA=="), "{request}");
}

#[test]
fn a_url_that_cannot_be_read_is_reported_without_its_password() {
    let show = |answer: &'static [u8]| {
        let server = Server::start(async move |mut conn| {
            conn.read_head().await?;
            conn.write(answer).await?;
            conn.close().await
        });
        let output = run(["show", &format!("http://joe:secret@{}/t", server.addr())]);
        exits_with(&output, 1);
        assert!(!output.stderr.contains("secret"), "{}", output.stderr);
        reason(&output).replace(&server.addr().to_string(), "ADDR")
    };
    assert_eq!(
        show(b"HTTP/1.1 404 Not Found\r\ncontent-length: 14\r\n\r\nno such\npage\n!"),
        "cannot read http://***@ADDR/t: the server answered 404 Not Found: no such"
    );
    assert_eq!(
        show(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlist"),
        "http://***@ADDR/t:1:1: expected value"
    );
    let cut_off = show(b"HTTP/1.1 200 OK\r\ncontent-length: 400\r\n\r\n{");
    assert!(cut_off.starts_with("cannot read http://***@ADDR/t: "), "{cut_off}");
    let refused = run(["show", "http://127.0.0.1:1/trace.json"]);
    exits_with(&refused, 1);
    assert!(reason(&refused).starts_with("cannot read http://127.0.0.1:1/trace.json: connection_refused: "));
}

#[cfg(unix)]
#[test]
fn endless_files_are_not_read_to_their_end() {
    let output = run(["show", "/dev/zero"]);
    exits_with(&output, 1);
    assert!(reason(&output).starts_with("/dev/zero:1:1: expected value"), "{}", output.stderr);
    let output = run(["get", "https://127.0.0.1:1/", "--cacert", "/dev/zero"]);
    exits_with(&output, 2);
    assert!(reason(&output).ends_with("the file is longer than 16 MiB"), "{}", output.stderr);
}

/// The waterfall of a file with precise times equals that of the request. Whole milliseconds are not enough for that.
#[test]
fn precise_times_are_shown_precisely() {
    let server = Server::answering(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("trace.json");
    let (url, file) = (format!("http://{}/", server.addr()), file.to_str().unwrap());
    let drawn = run(["get", &url, "--trace-only", "--json", file, "--precise"]).success();
    let shown = run(["show", file]).success();
    assert!(shown.ends_with(&drawn), "{drawn}\n{shown}");
    run(["get", &url, "--trace-only", "--json", file]).success();
    assert!(run(["show", file]).success().contains("<1 ms"));
}

#[test]
fn the_help_says_that_the_go_package_does_not_read_precise_times() {
    let help = run(["get", "--help"]).success().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("The Go package nettrace does not read"), "{help}");
}

/// Twelve requests to two hosts, of which one failed and one was slow.
fn many() -> String {
    let request = |id: usize, host: &str, ms: u64, end: &str| {
        let begin = id * 100;
        format!(
            r#"{{"traceID": "r{id}", "reqMethod": "GET", "reqURL": "http://{host}/{id}", "reqSentAt": "+{begin}ms",
            "connAcquiredAt": "+{begin}ms", "endAt": "+{}ms", {end}}}"#,
            begin as u64 + ms
        )
    };
    let good = r#""respStatusCode": 200, "endReason": "closed""#;
    let mut requests: Vec<_> = (0..10).map(|id| request(id, "shop.test", 10 + id as u64, good)).collect();
    requests.push(request(10, "pay.test", 5, r#""failure": "connection_reset", "endReason": "failed""#));
    requests.push(request(11, "pay.test", 900, r#""respStatusCode": 503, "endReason": "closed""#));
    format!(
        r#"{{"traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": "+2000ms", "httpRequests": [{}]}}"#,
        requests.join(",")
    )
}

fn shown(options: &[&str]) -> Vec<String> {
    let output = run_with_input(&[&["show", "-"], options].concat(), many().as_bytes());
    exits_with(&output, 0);
    let titles = output.stdout.lines().filter(|line| line.starts_with("GET "));
    titles.map(|line| line.split(['/', ' ']).nth(4).unwrap().to_owned()).collect()
}

#[test]
fn requests_are_chosen_by_options() {
    assert_eq!(shown(&[]).len(), 12);
    assert_eq!(shown(&["--failed"]), ["10", "11"]);
    assert_eq!(shown(&["--slow", "15ms"]), ["11", "9", "8", "7", "6", "5"]);
    assert_eq!(shown(&["--slow", "15ms", "--limit", "2"]), ["11", "9"]);
    assert_eq!(shown(&["--host", "pay.test"]), ["10", "11"]);
    assert_eq!(shown(&["--status", "5xx"]), ["11"]);
    assert_eq!(shown(&["--code", "connection_reset"]), ["10"]);
    assert_eq!(shown(&["--request", "r3", "--request", "r1"]), ["1", "3"]);
    assert_eq!(shown(&["--since", "1.0"]), ["10", "11"]);
    let none = run_with_input(&["show", "-", "--host", "nowhere.test"], many().as_bytes());
    exits_with(&none, 0);
    assert_eq!(none.stdout, "No request of the trace meets these conditions.\n");
}

#[test]
fn a_summary_has_each_host_with_its_failures_and_percentiles() {
    let summary = run_with_input(&["show", "-", "--summary", "--ascii"], many().as_bytes());
    exits_with(&summary, 0);
    let text = summary.stdout;
    assert!(text.is_ascii() && text.lines().count() < 40, "{text}");
    assert!(text.starts_with("12 requests to 2 hosts - 1 failed\n"), "{text}");
    let pay = text.find("pay.test - 2 requests - 1 failed - 1 with a status of 5xx").expect(&text);
    let shop = text.find("shop.test - 10 requests").expect(&text);
    assert!(pay < shop, "the host with failures comes first: {text}");
    assert!(text.contains("x connection_reset 1"), "{text}");
    let total = text[shop..].lines().find(|line| line.starts_with("  total")).expect(&text);
    assert_eq!(
        total.split_whitespace().collect::<Vec<_>>(),
        ["total", "14", "ms", "18", "ms", "19", "ms", "10"]
    );
}
