//! Large traces: lines stay short, and the work does not grow faster than they do.

use crate::written;
use nettrace::{NetTrace, export::otlp_json::OtlpJson};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Requests in chains of redirects over one connection, and dials that fail, each with an attempt.
fn trace(requests: usize, dials: usize) -> NetTrace {
    let request = |at: usize| {
        json!({"traceID": format!("r{at}"), "tcpConn": "c", "reqMethod": "GET", "reqURL": "http://web.test/",
            "prevHop": if at.is_multiple_of(5) { String::new() } else { format!("r{}", at - 1) },
            "reqSentAt": format!("+{at}ms"), "connAcquiredAt": format!("+{at}ms"), "endAt": format!("+{}ms", at + 7),
            "respRecvAt": format!("+{}ms", at + 5), "respStatusCode": 200, "endReason": "closed"})
    };
    let dial = |at: usize| {
        json!({"traceID": format!("d{at}"), "dstAddress": "web.test:80", "dialBeginAt": format!("+{at}ms"),
            "dialEndAt": format!("+{}ms", at + 9), "failure": "connection_refused", "endReason": "failed"})
    };
    let attempt = |at: usize| {
        json!({"traceID": format!("a{at}"), "fromDial": format!("d{at}"), "failure": "connection_refused",
            "endReason": "failed", "handshakeBeginAt": format!("+{at}ms"), "handshakeEndAt": format!("+{at}ms"),
            "addrTuple": {"srcIP": "", "srcPort": 0, "dstIP": "192.0.2.1", "dstPort": 80}})
    };
    let many = |count, make: &dyn Fn(usize) -> Value| (0..count).map(make).collect::<Vec<_>>();
    let mut conns = many(dials, &attempt);
    conns.push(json!({"traceID": "c", "fromDial": "d0", "connected": true}));
    serde_json::from_value(json!({
        "traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": "+900000ms",
        "httpRequests": many(requests, &request), "dials": many(dials, &dial), "tcpConns": conns,
    }))
    .unwrap()
}

fn time_of(trace: &NetTrace) -> Duration {
    let begin = Instant::now();
    let lines = written(&OtlpJson::new(), trace);
    let time = begin.elapsed();
    assert!(lines.split(|byte| *byte == b'\n').all(|line| line.len() < 513 << 10));
    time
}

#[test]
fn a_large_trace_is_written_in_a_time_that_grows_with_its_size() {
    let (small, large) = (trace(150, 30), trace(1_500, 300));
    let small = (0..3).map(|_| time_of(&small)).min().unwrap();
    let large = time_of(&large);
    // Work that grows with the square would take a hundred times as long.
    assert!(large < 40 * small.max(Duration::from_millis(5)), "{small:?}, and ten times as much {large:?}");
}

#[test]
fn a_line_has_a_limit() {
    let long = "\u{1b}\"".repeat(100_000);
    let field = |at: usize| json!({"fieldName": format!("x-{at}"), "fieldVal": long});
    let request = |at: usize| {
        json!({"traceID": format!("r{at}"), "reqMethod": long, "reqURL": long, "reqError": long, "endReason": "failed",
            "reqHeader": [field(1), field(2), field(3)], "reqSentAt": "+1ms", "endAt": "+2ms"})
    };
    let trace: NetTrace = serde_json::from_value(json!({
        "traceBeginAt": "2026-01-01T00:00:00Z", "httpRequests": (0..5).map(request).collect::<Vec<_>>(),
    }))
    .unwrap();
    let lines = written(&OtlpJson::new(), &trace);
    let lengths: Vec<_> = lines.split(|byte| *byte == b'\n').map(<[u8]>::len).collect();
    assert!(lengths.iter().all(|length| *length < 513 << 10) && lengths.len() > 2, "{lengths:?}");
}
