//! Each assertion about traces can fail: a trace with one fault is rejected, and the message names the fault.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nettrace::NetTrace;
use serde_json::{Value, json};
use test_support::check;
use test_support::history::History;

/// A request over TLS whose host name was looked up, and the redirect that led to it.
const VALID: &str = r#"{
  "description": "valid",
  "traceBeginAt": "2026-11-23T13:27:02Z",
  "traceEndAt": "+100ms",
  "dials": [{
    "traceID": "dial", "triggeredBy": "second", "dstAddress": "web.test:443",
    "dialBeginAt": "+10ms", "dialEndAt": "+30ms", "ctxCloseAt": "+30ms", "endReason": "closed",
    "resolveBeginAt": "+11ms", "resolveEndAt": "+19ms", "establishedConn": "tcp",
    "resolverDials": [{
      "dialBeginAt": "+12ms", "dialEndAt": "+13ms", "nameserver": "10.0.0.1:53", "establishedConn": "udp"
    }]
  }],
  "tcpConns": [{
    "traceID": "tcp", "fromDial": "dial", "connected": true, "endReason": "closed",
    "handshakeBeginAt": "+20ms", "handshakeEndAt": "+29ms", "connCloseAt": "+90ms",
    "addrTuple": { "srcIP": "10.0.0.2", "srcPort": 40000, "dstIP": "10.0.0.3", "dstPort": 443 },
    "totalSentBytes": 100, "totalRecvBytes": 200,
    "socketTrace": { "socketOps": [
      { "type": "write", "callAt": "+51ms", "returnAt": "+52ms", "dataLen": 100 },
      { "type": "read", "callAt": "+53ms", "returnAt": "+54ms", "dataLen": 200 }
    ] }
  }],
  "udpConns": [{
    "traceID": "udp", "fromDial": "dial", "fromResolver": true, "endReason": "closed",
    "socketCreateAt": "+12ms", "connCloseAt": "+18ms",
    "addrTuple": { "srcIP": "10.0.0.2", "srcPort": 40001, "dstIP": "10.0.0.1", "dstPort": 53 },
    "totalSentBytes": 26, "totalRecvBytes": 42
  }],
  "dnsQueries": [{
    "traceID": "query", "fromDial": "dial", "connection": "udp", "endReason": "closed", "endAt": "+17ms",
    "dnsQueryMsgs": [], "dnsReplyMsgs": []
  }],
  "tlsTunnels": [{
    "traceID": "tunnel", "tcpConn": "tcp", "endReason": "closed",
    "handshakeBeginAt": "+31ms", "handshakeEndAt": "+40ms", "closeAt": "+89ms"
  }],
  "httpRequests": [
    {
      "traceID": "first", "endReason": "closed", "protoMajor": 1, "protoMinor": 1,
      "reqMethod": "GET", "reqURL": "http://web.test/", "respStatusCode": 302,
      "reqSentAt": "+1ms", "connAcquiredAt": "+2ms", "firstByteAt": "+3ms", "respRecvAt": "+4ms",
      "respBodyEndAt": "+5ms", "endAt": "+5ms"
    },
    {
      "traceID": "second", "prevHop": "first", "tcpConn": "tcp", "tlsTunnel": "tunnel", "endReason": "closed",
      "protoMajor": 1, "protoMinor": 1, "reqMethod": "GET", "reqURL": "https://web.test/", "respStatusCode": 200,
      "reqSentAt": "+9ms", "connAcquiredAt": "+50ms", "firstByteAt": "+53ms", "respRecvAt": "+54ms",
      "respBodyEndAt": "+55ms", "endAt": "+56ms"
    }
  ]
}"#;

/// Returns the valid trace with the value at this JSON pointer replaced.
fn with(pointer: &str, value: Value) -> NetTrace {
    let mut json: Value = serde_json::from_str(VALID).expect("JSON");
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    json.pointer_mut(parent).expect(pointer)[key] = value;
    serde_json::from_value(json).expect("a trace")
}

fn valid() -> NetTrace {
    serde_json::from_str(VALID).expect("a trace")
}

/// Returns the message with which `f` panics, or an empty text if it does not.
fn panic_message(f: impl FnOnce()) -> String {
    let panicked = catch_unwind(AssertUnwindSafe(f)).err();
    panicked.map_or_else(String::new, |panicked| *panicked.downcast::<String>().expect("a message"))
}

/// Returns the problems that `check` reports.
fn problems(check: impl FnOnce()) -> String {
    let message = panic_message(check);
    message.split_once("wrong with this trace:").map_or_else(String::new, |(_, problems)| problems.to_owned())
}

#[test]
fn a_valid_trace_is_accepted() {
    check::finished(&valid());
    check::running(&valid());
    let mut history = History::default();
    history.check(&valid());
    history.check(&valid());
}

#[test]
fn each_fault_of_a_trace_is_found() {
    let faults = [
        // Identifiers and references
        ("/dials/0/traceID", json!(""), "has no identifier"),
        ("/udpConns/0/traceID", json!("tcp"), "has the identifier of another record"),
        ("/dials/0/triggeredBy", json!("nothing"), "triggeredBy nothing does not resolve"),
        ("/dials/0/establishedConn", json!("nothing"), "establishedConn nothing does not resolve"),
        ("/dials/0/resolverDials/0/establishedConn", json!("tcp"), "did not establish its connection"),
        ("/dials/0/skippedNameservers", json!(["10.0.0.9:53"]), "a reason for each skipped nameserver"),
        ("/tcpConns/0/fromDial", json!("nothing"), "fromDial nothing does not resolve"),
        ("/tcpConns/0/fromResolver", json!(true), "did not establish its connection tcp"),
        ("/dnsQueries/0/connection", json!("tunnel"), "its connection is not part of its dial"),
        ("/tlsTunnels/0/tcpConn", json!("nothing"), "tcpConn nothing does not resolve"),
        ("/httpRequests/1/prevHop", json!("nothing"), "prevHop nothing does not resolve"),
        ("/httpRequests/1/tcpConn", json!(""), "its tunnel tunnel is on another connection"),
        ("/httpRequests/1/triggeredBy", json!("first"), "is no CONNECT to a proxy"),
        ("/httpRequests/1/attempts", json!([{ "tcpConn": "" }]), "the last attempt has another connection"),
        // Times and totals
        ("/dials/0/resolveEndAt", json!("+9ms"), "resolveEndAt is 2000000 ns before resolveBeginAt"),
        ("/tcpConns/0/handshakeBeginAt", json!("+18ms"), "before dial's resolveEndAt"),
        ("/tcpConns/0/connCloseAt", json!("+101ms"), "traceEndAt is 1000000 ns before connCloseAt"),
        ("/udpConns/0/connCloseAt", json!("+20ms"), "resolveEndAt is 1000000 ns before connCloseAt"),
        ("/dnsQueries/0/endAt", json!("+18.5ms"), "connCloseAt is 500000 ns before endAt"),
        (
            "/tlsTunnels/0/handshakeBeginAt",
            json!("+29.5ms"),
            "handshakeBeginAt is 500000 ns before dialEndAt",
        ),
        ("/httpRequests/1/reqSentAt", json!("+3ms"), "before previous hop's respRecvAt"),
        ("/httpRequests/1/connAcquiredAt", json!("+39ms"), "before connection ready"),
        ("/httpRequests/1/respRecvAt", json!("+56ms"), "respBodyEndAt is 1000000 ns before respRecvAt"),
        ("/tcpConns/0/totalSentBytes", json!(101), "but the totals are [101, 200]"),
        (
            "/tcpConns/0/socketTrace/socketOps/1/callAt",
            json!("+54.5ms"),
            "returnAt is 500000 ns before callAt",
        ),
        // Ends
        ("/dials/0/ctxCloseAt", json!("undefined"), "but has no ctxCloseAt"),
        ("/dials/0/failure", json!("connection_refused"), "both or neither of a connection and a failure"),
        ("/dials/0/resolveEndAt", json!("undefined"), "the lookup has not ended"),
        ("/dials/0/resolverDials/0/dialErr", json!("refused"), "both or neither of a code and a text"),
        ("/tcpConns/0/connected", json!(false), "carried bytes, but was never connected"),
        ("/tcpConns/0/handshakeErr", json!("refused"), "the error of a phase in which it did not end"),
        ("/tcpConns/0/endReason", json!(null), "TCP connection tcp: has not ended"),
        ("/udpConns/0/endReason", json!("failed"), "Failed with None"),
        ("/dnsQueries/0/endReason", json!("made-up"), "ended for an unknown reason"),
        ("/tlsTunnels/0/closeAt", json!("undefined"), "ended without a time"),
        ("/httpRequests/1/endReason", json!("unobserved"), "unobserved and with a time"),
        ("/httpRequests/1/failure", json!("eof_error"), "failed without an error text"),
    ];
    for (pointer, value, problem) in faults {
        let found = problems(|| check::finished(&with(pointer, value.clone())));
        assert!(found.contains(problem), "{pointer} = {value}: no {problem:?} among {found:?}");
    }
}

#[test]
fn a_trace_of_running_requests_may_have_open_records() {
    let trace = with("/tcpConns/0/endReason", json!(null));
    check::running(&trace);
    assert_eq!(problems(|| check::finished(&trace)).trim(), "TCP connection tcp: has not ended");
    let found = problems(|| check::running(&with("/tcpConns/0/totalSentBytes", json!(99))));
    assert!(found.contains("the totals are [99, 200]"), "{found}");
}

#[test]
fn changed_and_missing_records_are_found() {
    let later = |later: NetTrace| {
        let mut history = History::default();
        history.check(&valid());
        panic_message(|| history.check(&later))
    };
    // The request may end after its dial.
    assert_eq!(later(with("/dials/0/ctxCloseAt", json!("+31ms"))), "");
    let changed = later(with("/httpRequests/1/respStatusCode", json!(404)));
    assert!(changed.contains("an ended record has changed"), "{changed}");
    let missing = later(with("/dnsQueries", json!([])));
    assert!(missing.contains("ended records are missing"), "{missing}");

    let mut history = History::default();
    history.check(&with("/httpRequests/1/endReason", json!(null)));
    history.check(&with("/httpRequests/1/respStatusCode", json!(404))); // it was open
    history.forget();
    history.check(&with("/dnsQueries", json!([])));
}
