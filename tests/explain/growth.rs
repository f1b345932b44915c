//! Large traces: the work does not grow faster than they do.

use nettrace::{NetTrace, explain::explain};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Requests over one connection, and dials that fail, each with an attempt and a lookup.
fn trace(requests: usize, dials: usize) -> NetTrace {
    let request = |at: usize| {
        json!({"traceID": format!("r{at}"), "tcpConn": "c", "reqMethod": "GET", "reqURL": "http://web.test/",
            "reqSentAt": format!("+{at}ms"), "connAcquiredAt": format!("+{at}ms"), "endAt": format!("+{}ms", at + 7),
            "respRecvAt": format!("+{}ms", at + 5), "respStatusCode": 200, "endReason": "closed"})
    };
    let dial = |at: usize| {
        json!({"traceID": format!("d{at}"), "dstAddress": "web.test:80", "dialBeginAt": format!("+{at}ms"),
            "dialEndAt": format!("+{}ms", at + 9), "failure": "connection_refused", "endReason": "failed"})
    };
    let attempt = |at: usize| {
        json!({"traceID": format!("a{at}"), "fromDial": format!("d{at}"), "failure": "connection_refused",
            "endReason": "failed", "addrTuple": {"srcIP": "", "srcPort": 0, "dstIP": "192.0.2.1", "dstPort": 80}})
    };
    let query =
        |at: usize| json!({"traceID": format!("q{at}"), "fromDial": format!("d{at}"), "endReason": "closed"});
    let many = |count, make: &dyn Fn(usize) -> Value| (0..count).map(make).collect::<Vec<_>>();
    let mut conns = many(dials, &attempt);
    conns.push(json!({"traceID": "c", "connected": true}));
    serde_json::from_value(json!({
        "traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": "+900000ms",
        "httpRequests": many(requests, &request), "dials": many(dials, &dial), "tcpConns": conns,
        "dnsQueries": many(dials, &query),
    }))
    .unwrap()
}

fn time_of(trace: &NetTrace, verdicts: usize) -> Duration {
    let begin = Instant::now();
    assert_eq!(explain(trace).verdicts.len(), verdicts);
    begin.elapsed()
}

#[test]
fn a_large_trace_is_explained_in_a_time_that_grows_with_its_size() {
    let (small, large) = (trace(5_000, 1_000), trace(50_000, 10_000));
    let small = (0..3).map(|_| time_of(&small, 1_000)).min().unwrap();
    let large = time_of(&large, 10_000);
    // Work that grows with the square would take a hundred times as long.
    assert!(large < 40 * small.max(Duration::from_millis(5)), "{small:?}, and ten times as much {large:?}");
}
