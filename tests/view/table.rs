//! The table of requests.

use nettrace::view;
use serde_json::{Value, json};

use crate::fixture::{all, of};

fn drawn(trace: Value) -> String {
    view::table(&of(trace)).to_string()
}

/// Returns a request with its own dial, which took 1 ms for the lookup and 2 ms to connect.
fn dialed(id: &str, conn: &str, ip: &str, at: u64, more: Value) -> [Value; 3] {
    let (begin, resolved, connected) =
        (format!("+{at}.5ms"), format!("+{}.5ms", at + 1), format!("+{}.5ms", at + 3));
    let mut request = json!({"traceID": id, "tcpConn": conn, "reqMethod": "GET", "reqURL": "http://web.test/", "protoMajor": 1,
        "protoMinor": 1, "reqSentAt": begin, "connAcquiredAt": connected, "reqBodyEndAt": connected,
        "respRecvAt": format!("+{}.5ms", at + 7), "respBodyEndAt": format!("+{}.5ms", at + 8),
        "endAt": format!("+{}.5ms", at + 8), "endReason": "closed", "respStatusCode": 200});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    [
        json!({"traceID": format!("d-{id}"), "triggeredBy": id, "dstAddress": "web.test:80", "dialBeginAt": begin,
            "resolveBeginAt": begin, "resolveEndAt": resolved, "dialEndAt": connected, "endReason": "closed",
            "establishedConn": conn}),
        json!({"traceID": conn, "fromDial": format!("d-{id}"), "connected": true, "handshakeBeginAt": resolved,
            "handshakeEndAt": connected, "addrTuple": {"srcIP": "", "srcPort": 4, "dstIP": ip, "dstPort": 80}}),
        request,
    ]
}

fn trace(dialed: &[[Value; 3]], others: &[Value]) -> Value {
    let column = |at: usize| dialed.iter().map(move |records| records[at].clone());
    let requests: Vec<_> = column(2).chain(others.iter().cloned()).collect();
    json!({"traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": "+900.5ms", "httpRequests": requests,
        "dials": column(0).collect::<Vec<_>>(), "tcpConns": column(1).collect::<Vec<_>>()})
}

#[test]
fn requests_to_the_same_address_are_rows_below_it() {
    let again = [
        json!({"traceID": "b", "tcpConn": "c", "reqMethod": "GET", "reqURL": "http://web.test/", "protoMajor": 1,
        "protoMinor": 1, "reqSentAt": "+20.5ms", "connAcquiredAt": "+20.5ms", "reqBodyEndAt": "+20.5ms",
        "respRecvAt": "+23.5ms", "endAt": "+24.5ms", "endReason": "closed", "respStatusCode": 404}),
    ];
    let v6 = dialed("e", "f", "2001:db8::1", 30, json!({}));
    let table = drawn(trace(&[dialed("a", "c", "192.0.2.1", 0, json!({})), v6], &again));
    let headings: Vec<_> = table.lines().filter(|line| line.starts_with("IPv")).collect();
    let expected =
        ["IPv4 192.0.2.1:80 · HTTP/1.1", "IPv6 [2001:db8::1]:80 · HTTP/1.1", "IPv4 192.0.2.1:80 · HTTP/1.1"];
    assert_eq!(headings, expected, "the order is that of the trace");

    let table = drawn(trace(&[dialed("a", "c", "192.0.2.1", 0, json!({}))], &again));
    assert_eq!(
        table,
        "\
GET http://web.test/
                             dns  connect      tls     wait  receive    total
IPv4 192.0.2.1:80 · HTTP/1.1
  new     200 OK         1.00 ms  2.00 ms           4.00 ms  1.00 ms  8.00 ms
  reused  404 Not Found                             3.00 ms           4.00 ms
"
    );
}

#[test]
fn a_failed_request_shows_what_was_tried_and_its_code() {
    let failed = json!({"tcpConn": "", "respStatusCode": 0, "endReason": "failed", "failure": "connection_refused",
        "respRecvAt": "undefined", "respBodyEndAt": "undefined", "reqBodyEndAt": "undefined",
        "connAcquiredAt": "undefined", "endAt": "+3.5ms", "reqError": "Connection refused (os error 111)"});
    let [mut dial, mut conn, request] = dialed("a", "c", "::1", 0, failed);
    dial["establishedConn"] = json!("");
    conn["connected"] = json!(false);
    let table = drawn(trace(&[[dial, conn, request]], &[]));
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines[2], "IPv6 [::1]:80");
    assert!(lines[3].starts_with("  none    ✗ connection_refused  1.00 ms"), "{table}");
}

#[test]
fn a_redirected_request_is_one_row() {
    let first = dialed("a", "c", "192.0.2.1", 0, json!({"respStatusCode": 302}));
    let last =
        dialed("b", "d", "192.0.2.2", 10, json!({"prevHop": "a", "reqURL": "http://b.test/\u{1b}[31m"}));
    let table = drawn(trace(&[first, last], &[]));
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines[0], "GET http://web.test/");
    assert_eq!(lines[2], "IPv4 192.0.2.2:80 · HTTP/1.1");
    assert_eq!(lines[3], "  new     200 OK  2.00 ms  4.00 ms           8.00 ms  2.00 ms  16.0 ms");
    assert_eq!(lines[4], "          1 redirect, the last one to http://b.test/\\u{1b}[31m");
}

#[test]
fn tables_and_summaries_can_be_ascii() {
    for trace in all().chain([of(trace(&[dialed("a", "c", "::1", 0, json!({}))], &[]))]) {
        let table = [false, true].map(|ascii| view::table(&trace).ascii(ascii).to_string());
        let summary = [false, true].map(|ascii| view::summary(&trace).ascii(ascii).to_string());
        for [unicode, ascii] in [table, summary] {
            assert!(ascii.is_ascii(), "{ascii}");
            assert_eq!(ascii.lines().count(), unicode.lines().count(), "{ascii}");
        }
    }
}

#[test]
fn requests_through_a_proxy_have_a_column_for_it() {
    let socks = json!({"target": "web.test:80", "handshakeBeginAt": "+2.5ms", "handshakeEndAt": "+3.5ms"});
    let [dial, mut conn, request] = dialed(
        "a",
        "c",
        "192.0.2.1",
        0,
        json!({"networkProxy": "socks5://p.test:1080", "connAcquiredAt": "+5.5ms"}),
    );
    conn["socks"] = socks;
    let table = drawn(trace(&[[dial, conn, request]], &[]));
    let lines: Vec<_> = table.lines().collect();
    let names: Vec<_> = lines[1].split_whitespace().collect();
    assert_eq!(names, ["blocked", "dns", "connect", "proxy", "tls", "wait", "receive", "total"]);
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{table}");
    assert_eq!(lines[2], "IPv4 192.0.2.1:80 · through socks5://p.test:1080 · HTTP/1.1");
    assert!(lines[3].contains(" 1.00 ms "), "{table}");
}

#[test]
fn every_stored_trace_can_be_listed() {
    for trace in all() {
        let table = view::table(&trace).to_string();
        let shown = table
            .lines()
            .filter(|line| line.starts_with("  ") && !line.trim_start().starts_with("dns"))
            .count();
        assert!(shown > 0 || trace.http_requests.is_empty(), "{table}");
    }
    assert_eq!(view::table(&nettrace::NetTrace::default()).to_string(), "No request was traced.\n");
}
