//! What changed between two traces.
#![cfg(all(feature = "full", any(feature = "ring", feature = "aws-lc-rs")))]

use nettrace::{
    Client, NetTrace, TraceSink,
    client::HttpVersion,
    diff::{Change, diff},
};
use serde_json::{Value, json};
use test_support::web::{Web, reply};

/// Requests to one host over a connection each, with these times in milliseconds. `change` may change each request.
fn trace(waits: &[u64], certificate: &str, change: impl Fn(usize, &mut Value)) -> NetTrace {
    let request = |(at, wait): (usize, &u64)| {
        let begin = at * 1000;
        let at_ms = |ms: u64| format!("+{}ms", begin as u64 + ms);
        let mut request = json!({"traceID": format!("r{at}"), "tcpConn": format!("c{at}"), "tlsTunnel": format!("t{at}"),
            "reqMethod": "GET", "reqURL": "https://web.test/", "reqSentAt": at_ms(0), "connAcquiredAt": at_ms(1),
            "reqBodyEndAt": at_ms(1), "respRecvAt": at_ms(1 + wait), "respBodyEndAt": at_ms(2 + wait),
            "endAt": at_ms(2 + wait), "respStatusCode": 200, "protoMajor": 2, "endReason": "closed"});
        change(at, &mut request);
        request
    };
    let conn = |at: usize| {
        json!({"traceID": format!("c{at}"), "connected": true,
        "addrTuple": {"srcIP": "192.0.2.9", "srcPort": 1, "dstIP": "192.0.2.1", "dstPort": 443}})
    };
    let tunnel = |at: usize| {
        json!({"traceID": format!("t{at}"), "tcpConn": format!("c{at}"), "tlsVersion": "TLSv1.3",
        "peerCerts": [{"subject": "CN=web.test", "issuer": certificate, "notBefore": "2020-01-01T00:00:00Z",
            "notAfter": "2030-01-01T00:00:00Z", "isCA": false}]})
    };
    serde_json::from_value(json!({
        "traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": "+90000ms",
        "httpRequests": waits.iter().enumerate().map(request).collect::<Vec<_>>(),
        "tcpConns": (0..waits.len()).map(conn).collect::<Vec<_>>(),
        "tlsTunnels": (0..waits.len()).map(tunnel).collect::<Vec<_>>(),
    }))
    .unwrap()
}

fn unchanged(_: usize, _: &mut Value) {}

fn texts(changes: &[Change]) -> Vec<String> {
    changes.iter().map(Change::to_string).collect()
}

#[test]
fn equal_work_has_no_difference() {
    let one = trace(&[20, 22, 19, 24, 21], "CN=ca", unchanged);
    assert_eq!(diff(&one, &one), []);
    let two = trace(&[23, 20, 25, 18, 22], "CN=ca", unchanged);
    assert_eq!(texts(&diff(&one, &two)), [""; 0], "within the noise of each");
    assert_eq!(diff(&NetTrace::default(), &NetTrace::default()), []);
}

#[test]
fn a_phase_that_takes_longer_than_the_repeats_differ() {
    let (one, two) =
        (trace(&[20, 22, 19, 24, 21], "CN=ca", unchanged), trace(&[80, 84, 79, 82, 81], "CN=ca", unchanged));
    assert_eq!(
        texts(&diff(&one, &two)),
        ["web.test: wait: 21.0 ms → 81.0 ms", "web.test: total: 23.0 ms → 83.0 ms"]
    );
    let few = trace(&[80, 84], "CN=ca", unchanged);
    assert_eq!(texts(&diff(&one, &few)), [""; 0], "two requests say nothing about noise");
}

#[test]
fn certificates_failures_and_causes_are_compared() {
    let one = trace(&[20, 20, 20, 20], "CN=old", unchanged);
    let two = trace(&[20, 20, 20, 20], "CN=new", |at, request| {
        if at % 2 == 1 {
            request["endReason"] = "failed".into();
            request["failure"] = "connection_reset".into();
        }
    });
    let changes = diff(&one, &two);
    let whats: Vec<_> = changes.iter().map(|change| change.what.as_str()).collect();
    assert!(whats.starts_with(&["certificate", "failures"]), "{whats:?}");
    assert_eq!((&*changes[1].before, &*changes[1].after), ("", "connection_reset 50 %"));
    assert!(
        changes[0].before.starts_with("CN=old until 2030")
            && changes[0].after.starts_with("CN=new until 2030")
    );
    assert_eq!(
        serde_json::from_value::<Vec<Change>>(serde_json::to_value(&changes).unwrap()).unwrap(),
        changes
    );
}

#[test]
fn statuses_are_compared_unless_they_differ_by_chance() {
    let one = trace(&[20; 10], "CN=ca", unchanged);
    let failing = |every: usize| {
        trace(&[20; 10], "CN=ca", move |at, request| {
            if at % every == 0 {
                request["respStatusCode"] = 500.into();
            }
        })
    };
    assert_eq!(texts(&diff(&one, &failing(1))), ["web.test: statuses: 200 100 % → 500 100 %"]);
    assert_eq!(texts(&diff(&failing(2), &one)), ["web.test: statuses: 200 50 %, 500 50 % → 200 100 %"]);
    assert_eq!(texts(&diff(&one, &failing(10))), [""; 0]);
}

#[test]
fn a_host_that_is_new_or_gone_is_named() {
    let one = trace(&[20], "CN=ca", unchanged);
    assert_eq!(texts(&diff(&one, &NetTrace::default())), ["web.test: requests: some → none"]);
    assert_eq!(texts(&diff(&NetTrace::default(), &one)), ["web.test: requests: none → some"]);
}

#[tokio::test]
async fn another_protocol_is_seen_in_real_traces() {
    let web = Web::start(async |_| reply("hello"));
    let trace = async |version: HttpVersion| {
        let sink = TraceSink::new();
        let client = Client::builder(&sink).http_version(version).build().unwrap();
        for _ in 0..2 {
            client.get(web.url("/")).await.unwrap().into_body().bytes().await.unwrap();
        }
        client.close().await;
        sink.snapshot("")
    };
    let (one, two) = (trace(HttpVersion::Http1Only).await, trace(HttpVersion::Http2Only).await);
    assert_eq!(texts(&diff(&one, &two)), [format!("{}: protocol: HTTP/1 → HTTP/2", web.addr())]);
}
