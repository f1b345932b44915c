//! A large trace is explained in a bounded time and with bounded memory.

use nettrace::{NetTrace, explain::explain, record::SocketOp};
use serde_json::{Value, json};
use std::time::Duration;
use test_support::alloc;

use crate::cpu_time;

const REQUESTS: usize = 100_000;

/// Requests over ten thousand connections, of which every tenth fails: its own dial is refused after a lookup.
fn trace() -> NetTrace {
    let is_failed = |at: usize| at % 10 == 3;
    let at = |millis: usize| format!("+{millis}ms");
    let request = |number: usize| {
        let common = json!({"traceID": format!("r{number}"), "reqMethod": "GET", "endAt": at(number + 7),
            "reqURL": format!("http://web{}.test/", number % 100), "reqSentAt": at(number)});
        let rest = match is_failed(number) {
            true => json!({"failure": "connection_refused", "endReason": "failed"}),
            false => json!({"tcpConn": format!("c{}", number / 10), "connAcquiredAt": at(number),
                "reqBodyEndAt": at(number), "respRecvAt": at(number + 5), "respBodyEndAt": at(number + 6),
                "respStatusCode": 200, "endReason": "closed", "protoMajor": 1, "protoMinor": 1}),
        };
        merged(common, rest)
    };
    let failed = || (0..REQUESTS).filter(|number| is_failed(*number));
    let dial = |number: usize| {
        json!({"traceID": format!("d{number}"), "triggeredBy": format!("r{number}"), "dialBeginAt": at(number),
            "dstAddress": format!("web{}.test:80", number % 100), "resolveBeginAt": at(number),
            "resolveEndAt": at(number + 2), "dialEndAt": at(number + 7), "failure": "connection_refused",
            "endReason": "failed"})
    };
    let attempt = |number: usize| {
        json!({"traceID": format!("a{number}"), "fromDial": format!("d{number}"), "failure": "connection_refused",
            "handshakeBeginAt": at(number + 2), "handshakeEndAt": at(number + 7), "endReason": "failed",
            "addrTuple": {"srcIP": "192.0.2.1", "srcPort": 4000, "dstIP": "192.0.2.2", "dstPort": 80}})
    };
    let query = |number: usize| json!({"traceID": format!("q{number}"), "fromDial": format!("d{number}"), "endReason": "closed"});
    let conn = |number: usize| {
        json!({"traceID": format!("c{number}"), "connected": true, "handshakeBeginAt": at(number * 10),
            "handshakeEndAt": at(number * 10), "endReason": "closed"})
    };
    let conns: Vec<Value> = (0..REQUESTS / 10).map(conn).chain(failed().map(attempt)).collect();
    serde_json::from_value(json!({
        "traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": at(REQUESTS + 10), "tcpConns": conns,
        "httpRequests": (0..REQUESTS).map(request).collect::<Vec<_>>(),
        "dials": failed().map(dial).collect::<Vec<_>>(), "dnsQueries": failed().map(query).collect::<Vec<_>>(),
    }))
    .unwrap()
}

fn merged(mut to: Value, from: Value) -> Value {
    to.as_object_mut().unwrap().append(&mut from.as_object().unwrap().clone());
    to
}

#[test]
fn a_hundred_thousand_requests_are_explained_in_five_seconds() {
    let before = alloc::live();
    let trace = trace();
    let size = alloc::live() - before;
    let begin = cpu_time();
    let explanation = explain(&trace);
    let took = cpu_time() - begin;
    let held = alloc::live() - before - size;
    assert_eq!(explanation.verdicts.len(), REQUESTS / 10);
    println!("{took:?}; {held} bytes for a trace of {size}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(held < 2 * size, "{held} bytes for a trace of {size}");
}

/// Only the operations of a connection whose request was slow are looked at, and no more than 4,096 of them.
#[test]
fn a_million_operations_cost_nothing() {
    let mut trace = trace();
    let begin = cpu_time();
    let without = explain(&trace);
    let time_without = cpu_time() - begin;
    let mut conn = trace.tcp_conns[0].clone();
    conn.socket_trace.get_or_insert_default().socket_ops =
        (0..1_000_000).map(|_| SocketOp::default()).collect();
    trace.tcp_conns = std::iter::once(conn).chain(trace.tcp_conns.iter().skip(1).cloned()).collect();
    let begin = cpu_time();
    assert_eq!(explain(&trace), without);
    let time_with = cpu_time() - begin;
    println!("{time_without:?}, with a million operations {time_with:?}");
    assert!(time_with < 2 * time_without, "{time_with:?}, and {time_without:?} without them");
}
