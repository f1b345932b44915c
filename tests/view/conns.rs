//! Describes connections, and leaves out what was not observed.

use nettrace::view;
use serde_json::{Value, json};

use crate::fixture::{block, dial, drawn, get, line, of, read};

#[test]
fn what_the_kernel_says_of_a_connection() {
    let trace = read(
        r#"{"traceBeginAt": "2026-11-23T13:27:01Z", "traceEndAt": "+900ms", "dials": [
          {"traceID": "d", "dialBeginAt": "+0ms", "dialEndAt": "+90ms", "dstAddress": "h:80", "establishedConn": "good"}
        ], "tcpConns": [
          {"traceID": "bad", "fromDial": "d", "handshakeBeginAt": "+0ms", "handshakeEndAt": "+50ms",
           "handshakeErr": "host unreachable (ICMP type 3 code 1) said by 10.0.0.1: No route to host (os error 113)",
           "failure": "host_unreachable", "endReason": "failed", "addrTuple": {"dstIP": "10.0.0.2", "dstPort": 80},
           "tcpInfo": [{"at": "+50ms", "event": "connect-failed", "totalRetrans": 2}],
           "icmpError": {"origin": "10.0.0.1", "type": 3, "code": 1}},
          {"traceID": "good", "fromDial": "d", "handshakeBeginAt": "+50ms", "handshakeEndAt": "+90ms",
           "connected": true, "connCloseAt": "+800ms", "endReason": "closed",
           "addrTuple": {"srcIP": "10.0.0.9", "srcPort": 4, "dstIP": "10.0.0.3", "dstPort": 80},
           "conntrack": {"addrOrig": {"srcIP": "10.0.0.9", "srcPort": 4, "dstIP": "10.0.0.3", "dstPort": 80},
                         "addrReply": {"srcIP": "10.0.0.3", "srcPort": 80, "dstIP": "192.0.2.7", "dstPort": 5}},
           "tcpInfo": [{"at": "+90ms", "event": "connected", "rttUs": 39000, "totalRetrans": 0},
                       {"at": "+800ms", "event": "closing", "rttUs": 41234, "totalRetrans": 7}]}
        ]}"#,
    );
    let drawing = view::waterfall(&trace).width(160).to_string();
    let dial = block(&drawing, "dial h:80 · connected");
    line(&dial, &["good 10.0.0.9:4 → 10.0.0.3:80", "· NAT 192.0.2.7:5 → 10.0.0.3:80 · rtt 41.2 ms"]);
    line(&dial, &["· rtt 41.2 ms · 7 segments sent again · open for"]);
    line(&dial, &["10.0.0.2:80 · 2 SYNs sent again · ✗ host_unreachable: host unreachable (ICMP type 3"]);
    line(&dial, &["code 1) said by 10.0.0.1: No route to host (os error 113)"]);
    line(&dial, &["  tcp", "40 ms  10.0.0.3:80"]);
}

#[test]
fn how_a_wait_divides() {
    let [dial, mut conn] = dial("10.0.0.1", "", 1);
    conn["kernelTimes"] = json!({
        "writes": [{"sentBytes": 5, "writtenAt": "+10.1ms", "sentAt": "+10.5ms", "ackedAt": "+22.5ms"}],
        "reads": [{"recvBytes": 0, "receivedAt": "+322.5ms", "readAt": "+330ms"}],
    });
    let mut request = get("r", "10.0.0.1", 6);
    request["reqBodyEndAt"] = json!("+10ms");
    for field in ["respRecvAt", "respBodyEndAt", "endAt"] {
        request[field] = json!("+330.2ms");
    }
    let drawing = drawn([[dial, conn.clone()]], [request.clone()]);
    let block = block(&drawing, "GET http://h/r · 200 OK");
    line(&block, &["own stack 500 µs · network 12.0 ms · server 300 ms · read late 7.50 ms"]);

    conn["kernelTimes"]["reads"] = json!([]);
    let [dial, _] = crate::fixture::dial("10.0.0.1", "", 1);
    assert!(!drawn([[dial, conn]], [request]).contains("own stack"));
}

#[test]
fn what_was_read_on_the_wire_is_shown_where_it_explains_something() {
    let trace = read(
        r#"{"traceBeginAt": "2026-11-23T13:27:01Z", "traceEndAt": "+900ms", "tcpConns": [
          {"traceID": "c", "handshakeBeginAt": "+0ms", "handshakeEndAt": "+1ms", "connected": true,
           "connCloseAt": "+800ms", "endReason": "closed",
           "addrTuple": {"srcIP": "10.0.0.9", "srcPort": 4, "dstIP": "10.0.0.3", "dstPort": 80},
           "wire": {"protocol": "h2", "stoppedAt": "+700ms", "stopReason": "header-compression", "http2": {"goAways": [
             {"at": "+90ms", "byServer": true, "lastStreamID": 5, "error": "NO_ERROR", "debugData": "max_age"}]}}}
        ], "httpRequests": [
          {"traceID": "r", "tcpConn": "c", "protoMajor": 2, "reqMethod": "POST", "reqURL": "http://h/", "seenOnWire": true,
           "streamID": 7, "windowWaitUs": 12300, "reqSentAt": "+2ms", "connAcquiredAt": "+2ms", "reqBodyEndAt": "+30ms",
           "reqContentLen": 100000, "respRecvAt": "+40ms", "respBodyEndAt": "+41ms", "endAt": "+41ms",
           "respStatusCode": 200, "RespContentLen": 0, "endReason": "closed"}
        ]}"#,
    );
    let drawing = view::waterfall(&trace).width(160).to_string();
    let request = block(&drawing, "POST http://h/ · 200 OK");
    line(&request, &["r · HTTP/2 stream 7 ·", "· GOAWAY from the server: NO_ERROR max_age"]);
    line(&request, &["· HTTP not read to the end"]);
    line(&request, &["(header-compression)"]);
    line(&request, &["  send ", "100 kB · 12.3 ms blocked by flow control"]);
}

#[test]
fn what_was_not_observed_is_not_shown_as_zero() {
    for changes in [
        json!({"endReason": "unobserved"}),
        json!({"bytesUnobserved": true, "endReason": "closed", "connCloseAt": "+4ms"}),
    ] {
        let [dial, mut conn] = dial("10.0.0.1", "", 1);
        conn["totalSentBytes"] = json!(0);
        conn.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let drawing = drawn([[dial, conn]], []);
        let block = block(&drawing, "dial 10.0.0.1.test:80 · connected");
        let facts = line(&block, &["10.0.0.9:4 → 10.0.0.1:80 · bytes not observed · "]);
        assert!(
            facts.ends_with(if conn_is_closed(&changes) { "open for 1.00 ms" } else { "close not observed" }),
            "{facts}"
        );
        assert!(!drawing.contains("0 B") && !drawing.contains("still open"), "{drawing}");
    }
    // One that is open and quiet is just that.
    let [dial, mut conn] = dial("10.0.0.1", "", 1);
    conn["totalSentBytes"] = json!(0);
    assert!(drawn([[dial, conn]], []).contains("0 B sent, 0 B received · still open"));

    // A hop that a foreign client made: it does not say when it had a connection, nor what came.
    let mut hop = get("hop", "", 10);
    for field in ["connAcquiredAt", "respBodyEndAt"] {
        hop.as_object_mut().unwrap().remove(field);
    }
    hop["respStatusCode"] = json!(302);
    let drawing = drawn([], [hop.clone()]);
    let block = block(&drawing, "GET http://h/hop · 302 Found");
    assert!(!drawing.contains("0 B") && !drawing.contains("no connection"), "{drawing}");
    line(&block, &["connection not known"]);
    line(&block, &["  wait", "5 ms"]);
    let trace = of(json!({"httpRequests": [hop]}));
    assert_eq!(trace.http_requests[0].timings(&trace).to_string(), "total 6.0 ms");
}

fn conn_is_closed(conn: &Value) -> bool {
    conn.get("connCloseAt").is_some()
}

#[test]
fn a_handshake_that_includes_the_look_up_says_so() {
    // A foreign connector, whose resolver was not seen.
    let foreign = |address: &str| {
        let [mut dial, mut conn] = dial("10.0.0.1", "r", 1);
        for field in ["resolveBeginAt", "resolveEndAt"] {
            dial.as_object_mut().unwrap().remove(field);
        }
        dial["dstAddress"] = json!(address);
        conn["handshakeBeginAt"] = dial["dialBeginAt"].clone();
        [dial, conn]
    };
    let timings = |[dial, conn]: [Value; 2]| {
        let trace =
            of(json!({"dials": [dial], "tcpConns": [conn], "httpRequests": [get("r", "10.0.0.1", 0)]}));
        trace.http_requests[0].timings(&trace).to_string()
    };
    let drawing = drawn([foreign("web.test:80")], [get("r", "10.0.0.1", 0)]);
    line(&block(&drawing, "GET"), &["  tcp+dns ", "1.50 ms  10.0.0.1:80 · includes name lookup"]);
    assert!(timings(foreign("web.test:80")).contains(" · connect with dns 1.5 ms · "));
    for address in ["10.0.0.1:80", "[2001:db8::1]:80", ":80", ""] {
        let drawing = drawn([foreign(address)], [get("r", "10.0.0.1", 0)]);
        line(&block(&drawing, "GET"), &["  tcp ", "1.50 ms  10.0.0.1:80"]);
        assert!(!drawing.contains("lookup") && timings(foreign(address)).contains(" · connect 1.5 ms · "));
    }
    // Where the resolver was seen, the rest of the dial is the handshake.
    let [dial, mut conn] = dial("10.0.0.1", "r", 1);
    conn["handshakeBeginAt"] = dial["dialBeginAt"].clone();
    let drawing = drawn([[dial.clone(), conn.clone()]], [get("r", "10.0.0.1", 0)]);
    line(&block(&drawing, "GET"), &["  tcp ", "1.00 ms  10.0.0.1:80"]);
    assert!(timings([dial.clone(), conn.clone()]).contains(" · dns 500 µs · connect 1.0 ms · "));
    // With TLS in it, too.
    conn["layer"] = json!("application");
    line(
        &block(&drawn([[dial, conn]], [get("r", "10.0.0.1", 0)]), "GET"),
        &["10.0.0.1:80 · includes any TLS handshake"],
    );
}
