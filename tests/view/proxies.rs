//! The way through a proxy.

use nettrace::view;
use serde_json::{Value, json};

use crate::fixture::{block, line, of};

/// A request through an HTTPS proxy: its connection, and what was made of that, in the order in which it happened.
fn proxied() -> Value {
    json!({
        "traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": "+50ms",
        "dials": [{"traceID": "d", "triggeredBy": "r", "dstAddress": "10.0.0.1:3129", "dialBeginAt": "+0ms",
                   "dialEndAt": "+1ms", "establishedConn": "c", "endReason": "closed"}],
        "tcpConns": [{"traceID": "c", "fromDial": "d", "connected": true, "handshakeBeginAt": "+0ms",
                      "handshakeEndAt": "+1ms", "addrTuple": {"dstIP": "10.0.0.1", "dstPort": 3129}}],
        "tlsTunnels": [
            {"traceID": "s", "tcpConn": "c", "handshakeBeginAt": "+20ms", "handshakeEndAt": "+30ms",
             "tlsVersion": "TLSv1.2", "serverName": "web.test"},
            {"traceID": "p", "tcpConn": "c", "handshakeBeginAt": "+1ms", "handshakeEndAt": "+5ms",
             "tlsVersion": "TLSv1.3", "serverName": "proxy.test"},
        ],
        "httpRequests": [
            {"traceID": "r", "tcpConn": "c", "tlsTunnel": "s", "proxyTLSTunnel": "p", "reqMethod": "GET",
             "reqURL": "https://web.test/", "networkProxy": "https://***@proxy.test:3129", "reqSentAt": "+0ms",
             "connAcquiredAt": "+30ms", "respRecvAt": "+40ms", "endAt": "+45ms", "respStatusCode": 200,
             "endReason": "closed", "protoMajor": 1, "protoMinor": 1},
            {"traceID": "k", "tcpConn": "c", "proxyTLSTunnel": "p", "triggeredBy": "r", "reqMethod": "CONNECT",
             "reqURL": "web.test:443", "networkProxy": "https://***@proxy.test:3129", "reqSentAt": "+5ms",
             "connAcquiredAt": "+5ms", "respRecvAt": "+20ms", "endAt": "+20ms", "respStatusCode": 200,
             "endReason": "closed", "protoMajor": 1, "protoMinor": 1, "respHeader": [{"fieldName": "via"}]},
        ],
    })
}

#[test]
fn the_way_through_a_proxy() {
    let trace = of(proxied());
    let drawing = view::waterfall(&trace).headers(true).to_string();
    assert!(drawing.lines().next().unwrap().ends_with("· 1 request · 1 connection"), "{drawing}");
    let block = block(&drawing, "GET https://web.test/ · 200 OK");
    line(&block, &["through", "https://***@proxy.test:3129"]);
    let steps = ["  tcp ", "  tls ", "  proxy ", "  tls ", "  wait "];
    let rows = block.iter().filter(|line| steps.iter().any(|step| line.starts_with(step)));
    assert!(rows.map(|line| &line[..6]).eq(steps.map(|step| &step[..6])), "{drawing}");
    line(&block, &["  tls", "4 ms", "with the proxy · TLSv1.3"]);
    line(&block, &["  proxy", "15 ms", "CONNECT web.test:443 · 200 OK"]);
    line(&block, &["< via"]);
    assert_eq!(drawing.matches("CONNECT").count(), 1);
    assert!(trace.http_requests[0].timings(&trace).to_string().contains(" · proxy 15.0 ms · tls 14.0 ms · "));

    // A CONNECT that is under way, that failed, and one whose request is not there.
    let mut trace = proxied();
    for field in ["respStatusCode", "respRecvAt", "endAt", "endReason"] {
        trace["httpRequests"][1].as_object_mut().unwrap().remove(field);
    }
    let drawing = view::waterfall(&of(trace.clone())).to_string();
    assert!(drawing.contains("CONNECT web.test:443 · no answer yet"), "{drawing}");
    trace["httpRequests"][1]["failure"] = json!("eof_error");
    trace["httpRequests"][1]["reqError"] = json!("it hung up");
    let drawing = view::waterfall(&of(trace)).width(140).to_string();
    assert!(drawing.contains("CONNECT web.test:443 · ✗ eof_error: it hung up"), "{drawing}");
    let mut trace = proxied();
    trace["httpRequests"].as_array_mut().unwrap().remove(0);
    assert!(view::waterfall(&of(trace)).to_string().contains("\nCONNECT web.test:443 · 200 OK"));
}

#[test]
fn the_way_through_a_socks_proxy() {
    let mut trace = proxied();
    trace["httpRequests"].as_array_mut().unwrap().pop();
    trace["tcpConns"][0]["socks"] = json!({"target": "web.test:443", "handshakeBeginAt": "+5ms", "handshakeEndAt": "+9ms", "endReason": "closed"});
    let drawing = view::waterfall(&of(trace.clone())).to_string();
    line(&block(&drawing, "GET"), &["  proxy", "4 ms", "SOCKS5 to web.test:443"]);
    let timings = of(trace.clone());
    assert!(timings.http_requests[0].timings(&timings).to_string().contains(" · proxy 4.0 ms · "));
    trace["tcpConns"][0]["socks"]["failure"] = json!("x_proxy_refused");
    trace["tcpConns"][0]["socks"]["handshakeErr"] = json!("host unreachable");
    let drawing = view::waterfall(&of(trace)).width(140).to_string();
    assert!(drawing.contains("SOCKS5 to web.test:443 · ✗ x_proxy_refused: host unreachable"), "{drawing}");
}
