//! Large traces: the work does not grow faster than they do.

use nettrace::view;
use serde_json::{Value, json};

use crate::fixture::{of, read};

#[test]
fn a_long_trace_is_drawn_in_no_time() {
    let request = |at: usize| {
        json!({"traceID": format!("r{at}"), "tcpConn": "c", "reqURL": "http://h/", "reqSentAt": format!("+{at}ms"),
               "respRecvAt": format!("+{at}ms"), "respStatusCode": 302,
               "respHeader": [{"fieldName": "location", "fieldVal": "http://h/"}]})
    };
    let dial = |at: usize| json!({"traceID": format!("d{at}"), "dstAddress": "h:80", "dialBeginAt": format!("+{at}ms")});
    let tunnel = |at: usize| json!({"traceID": format!("t{at}"), "tcpConn": "none"});
    let query =
        |at: usize| json!({"traceID": format!("q{at}"), "dnsQueryMsgs": [{"sentAt": format!("+{at}ms")}]});
    let many = |make: &dyn Fn(usize) -> Value| (0..5000).map(make).collect::<Vec<_>>();
    let trace = of(json!({
        "httpRequests": many(&request), "dials": many(&dial), "tlsTunnels": many(&tunnel), "dnsQueries": many(&query),
        "tcpConns": [{"traceID": "c"}],
    }));
    let begin = std::time::Instant::now();
    assert!(view::waterfall(&trace).to_string().lines().count() > 20_000);
    // What takes a time that grows with the square would take minutes.
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}

/// Returns adverse traces with `n` records of a kind, for which an algorithm that looks at every pair does not end.
fn adverse(n: usize) -> Vec<(&'static str, String)> {
    let long = "x".repeat(n);
    let many = |record: &dyn Fn(usize) -> String| (0..n).map(record).collect::<Vec<_>>().join(",");
    let same = |record: &str| many(&|_| record.to_owned());
    let trace = |lists: &[(&str, String)]| {
        let lists: Vec<_> = lists.iter().map(|(name, records)| format!("\"{name}\":[{records}]")).collect();
        format!("{{{}}}", lists.join(","))
    };
    let location = |to: &str| format!(r#""respHeader":[{{"fieldName":"Location","fieldVal":"{to}"}}]"#);
    let request = r#""reqMethod":"GET","reqURL":"http://h/""#;
    let connect =
        r#"{"traceID":"k","tcpConn":"c","triggeredBy":"r","reqMethod":"CONNECT","networkProxy":"http://p"}"#;
    vec![
        (
            "dials with one identifier, attempts and look-ups of it",
            trace(&[
                ("dials", same(r#"{"traceID":"d","endReason":"closed"}"#)),
                (
                    "tcpConns",
                    same(
                        r#"{"traceID":"c","fromDial":"d","fromResolver":true,"connected":true},{"fromDial":"d"}"#,
                    ),
                ),
                ("udpConns", same(r#"{"traceID":"u","fromDial":"d","fromResolver":true}"#)),
                ("dnsQueries", same(r#"{"fromDial":"d","dnsQueryMsgs":[{}]}"#)),
                ("httpRequests", same(r#"{"traceID":"r","tcpConn":"c"}"#)),
            ]),
        ),
        (
            "connections with one identifier, tunnels and requests of it",
            trace(&[
                ("tcpConns", same(r#"{"traceID":"c","fromDial":"d"}"#)),
                ("dials", r#"{"traceID":"d"}"#.into()),
                ("tlsTunnels", same(r#"{"tcpConn":"c"}"#)),
                ("httpRequests", format!(r#"{{"traceID":"r",{request}}},{}"#, same(connect))),
            ]),
        ),
        (
            "redirects to one URL that come after the requests for it",
            trace(&[(
                "httpRequests",
                (0..5 * n)
                    .map(|at| {
                        let to = location("http://h/");
                        format!(
                            r#"{{"reqURL":"http://h/{at}","respStatusCode":302,"respRecvAt":"+9ms",{to}}},{{"reqURL":"http://h/","reqSentAt":"+1ms"}}"#
                        )
                    })
                    .collect::<Vec<_>>()
                    .join(","),
            )]),
        ),
        (
            "dials to one connection, which served requests to a proxy and broke",
            trace(&[
                (
                    "dials",
                    format!(
                        r#"{{"traceID":"d"}},{}"#,
                        same(r#"{"establishedConn":"c","triggeredBy":"r"},{"establishedConn":"c"}"#)
                    ),
                ),
                (
                    "tcpConns",
                    format!(
                        r#"{{"traceID":"c","connected":true,"fromDial":"d","connErr":"{long}","unixPath":"{long}"}}"#
                    ),
                ),
                ("httpRequests", format!(r#"{{"traceID":"r",{request}}},{}"#, same(connect))),
            ]),
        ),
        (
            "messages of one conversation",
            trace(&[
                (
                    "udpConns",
                    format!(
                        r#"{{"traceID":"u","connErr":"{long}","failure":"unknown_failure: {long}","addrTuple":{{"dstIP":"{long}"}}}}"#
                    ),
                ),
                (
                    "dnsQueries",
                    format!(
                        r#"{{"connection":"u","endReason":"failed","dnsQueryMsgs":[{}],"dnsReplyMsgs":[{}]}}"#,
                        same(r#"{"id":1}"#),
                        same(r#"{"id":2}"#)
                    ),
                ),
            ]),
        ),
        (
            "errors within a request that failed",
            trace(&[
                (
                    "dials",
                    format!(
                        r#"{{"traceID":"d","triggeredBy":"r","resolverDials":[{}]}}"#,
                        many(&|at| format!(r#"{{"dialErr":"{at}"}}"#))
                    ),
                ),
                ("httpRequests", format!(r#"{{"traceID":"r","reqError":"{long}"}}"#)),
            ]),
        ),
        (
            "requests that refer to one tunnel and one connection",
            trace(&[
                (
                    "tlsTunnels",
                    format!(
                        r#"{{"traceID":"t","tlsVersion":"{long}","peerCerts":[{{"subject":"{long}"}}]}}"#
                    ),
                ),
                (
                    "tcpConns",
                    format!(r#"{{"traceID":"c","addrTuple":{{"srcIP":"{long}","dstIP":"{long}"}}}}"#),
                ),
                (
                    "httpRequests",
                    same(r#"{"tlsTunnel":"t","tcpConn":"c","attempts":[{"tcpConn":"c"},{"tcpConn":"x"}]}"#),
                ),
            ]),
        ),
        (
            "requests with one identifier, what they caused",
            trace(&[
                ("dials", same(r#"{"traceID":"d","triggeredBy":"r","establishedConn":"x"}"#)),
                ("tcpConns", same(r#"{"traceID":"c","fromDial":"d","fromResolver":true}"#)),
                ("tlsTunnels", same(r#"{"traceID":"t","tcpConn":"x"}"#)),
                (
                    "httpRequests",
                    same(
                        r#"{"traceID":"r","networkProxy":"http://p","reqSentAt":"+1ms"},{"traceID":"r","tcpConn":"y","reqSentAt":"+1ms"}"#,
                    ),
                ),
            ]),
        ),
    ]
}

#[test]
fn the_work_grows_with_the_size_of_the_trace_and_no_faster() {
    // What looks at every pair takes minutes.
    for (what, json) in adverse(10_000) {
        let trace = read(&json);
        let drawing = view::waterfall(&trace).headers(true).to_string();
        let times = drawing.len() / json.len();
        assert!(times < 60, "{what}: {} bytes of {}", drawing.len(), json.len());
        let table = view::table(&trace).to_string();
        assert!(table.len() / json.len() < 60, "{what}: {} bytes of {}", table.len(), json.len());
        let timings = trace.http_requests.iter().map(|request| request.timings(&trace));
        assert_eq!(timings.count(), trace.http_requests.len());
    }
}

#[test]
fn nothing_is_lost_in_traces_that_nobody_would_record() {
    for (what, json) in adverse(20) {
        let trace = read(&json);
        let drawing = view::waterfall(&trace).to_string();
        let connects = drawing.matches("CONNECT").count();
        let expected = trace.http_requests.iter().filter(|request| request.req_method == "CONNECT").count();
        assert_eq!(connects, expected, "{what}\n{drawing}");
    }
}
