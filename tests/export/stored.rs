//! Exports of traces from files: identifiers, options, and what only a file can have.

use crate::{
    decoded::{SpanExt as _, Spans, value},
    exported, exported_with, written,
};
use nettrace::{
    NetTrace,
    export::otlp_json::{OtlpJson, TraceparentMeaning},
};
use opentelemetry_proto::tonic::{common::v1::any_value::Value as Attribute, trace::v1::span::SpanKind};
use serde_json::{Value, json};
use std::io::{self, ErrorKind};

fn of(trace: Value) -> NetTrace {
    serde_json::from_value(trace).unwrap()
}

/// Returns a trace with a request, to which some fields are added.
fn with_request(fields: Value) -> NetTrace {
    let mut request = json!({"traceID": "r", "reqMethod": "GET", "reqURL": "http://web.test/", "reqSentAt": "+1ms",
        "endAt": "+9ms", "endReason": "closed"});
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    of(
        json!({"traceBeginAt": "2026-01-01T00:00:00.000000001Z", "traceEndAt": "+9ms", "httpRequests": [request]}),
    )
}

#[test]
fn identifiers_are_the_same_each_time_and_differ_between_processes() {
    let trace = with_request(json!({}));
    let ids = |trace: &NetTrace| {
        let spans = exported(trace).spans;
        (spans[0].trace_id.clone(), spans[0].span_id.clone())
    };
    assert_eq!(ids(&trace), ids(&trace));
    let json = serde_json::to_string(&trace).unwrap();
    assert_eq!(ids(&trace), ids(&serde_json::from_str(&json).unwrap()));
    let mut other = trace.clone();
    other.trace_begin_at = "2026-01-01T00:00:00.000000002Z".parse().unwrap();
    assert_ne!(ids(&trace), ids(&other));
    let mut other = trace.clone();
    other.uuid = Some("7f1c9f5e".into());
    assert_ne!(ids(&trace), ids(&other));
    assert!(written(&OtlpJson::new(), &trace) == written(&OtlpJson::new(), &trace));
}

#[test]
fn the_resource_has_the_given_attributes() {
    let trace = with_request(json!({}));
    let export = OtlpJson::new().service_name("shop").resource("host.name", "a").resource("host.name", "b");
    let resource = exported_with(&export, &trace).resource;
    let text = |text: &str| Some(Attribute::StringValue(text.to_owned()));
    assert_eq!(value(&resource, "service.name"), text("shop").as_ref());
    assert_eq!(value(&resource, "host.name"), text("b").as_ref());
    let unnamed = exported_with(&OtlpJson::new(), &trace).resource;
    assert_eq!(value(&unnamed, "service.name"), text("unknown_service").as_ref());
}

#[test]
fn findings_can_be_left_out() {
    let trace = of(json!({"traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": "+9ms",
        "httpRequests": [{"traceID": "r", "reqURL": "http://web.test/", "reqMethod": "GET", "reqSentAt": "+0ms",
            "endAt": "+9ms", "failure": "connection_refused", "endReason": "failed"}],
        "dials": [{"traceID": "d", "triggeredBy": "r", "dstAddress": "web.test:80", "failure": "connection_refused",
            "dialBeginAt": "+0ms", "dialEndAt": "+9ms", "endReason": "failed"}],
        "tcpConns": [{"traceID": "c", "fromDial": "d", "failure": "connection_refused", "endReason": "failed",
            "handshakeBeginAt": "+1ms", "handshakeEndAt": "+2ms",
            "addrTuple": {"srcIP": "", "srcPort": 0, "dstIP": "192.0.2.1", "dstPort": 80}}]}));
    assert_eq!(exported(&trace).only("GET").events.len(), 1);
    assert!(exported_with(&OtlpJson::new().findings(false), &trace).only("GET").events.is_empty());
}

#[test]
fn header_fields_and_tags_are_attributes_if_they_were_recorded() {
    let trace = with_request(json!({
        "reqHeader": [{"fieldName": "Accept", "fieldVal": "a"}, {"fieldName": "accept", "fieldVal": "b"},
            {"fieldName": "Authorization", "fieldValLen": 9}],
        "respHeader": [{"fieldName": "Server", "fieldVal": "x"}], "tags": {"tenant": "acme"}, "respStatusCode": 200,
    }));
    let spans = exported(&trace);
    let span = spans.only("GET");
    assert_eq!(span.text("http.request.header.accept"), "a b");
    assert_eq!(span.text("http.response.header.server"), "x");
    assert_eq!(span.text("nettrace.tag.tenant"), "acme");
    assert_eq!(span.text("http.request.header.authorization"), "");
}

#[test]
fn a_method_that_is_not_known_is_no_name() {
    let spans = exported(&with_request(json!({"reqMethod": "Brew"})));
    let span = spans.only("HTTP");
    assert_eq!(span.text("http.request.method"), "_OTHER");
    assert_eq!(span.text("http.request.method_original"), "Brew");
}

#[test]
fn a_status_of_grpc_is_an_error() {
    let call = |status: u16, accepted: bool| {
        let fields =
            json!({"grpcStatus": status, "grpcMessage": "no", "respStatusCode": 200, "accepted": accepted});
        let spans = exported(&with_request(fields));
        let span = spans.only("GET");
        (span.text("rpc.response.status_code"), span.text("error.type"))
    };
    assert_eq!(call(0, false), ("OK".into(), String::new()));
    assert_eq!(call(5, false), ("NOT_FOUND".into(), "NOT_FOUND".into()));
    assert_eq!(call(5, true), ("NOT_FOUND".into(), String::new()));
    assert_eq!(call(14, true), ("UNAVAILABLE".into(), "UNAVAILABLE".into()));
    assert_eq!(call(99, false), ("99".into(), "99".into()));
}

#[test]
fn a_retried_request_links_to_each_setup() {
    let dial = |id: &str| {
        json!({"traceID": id, "dstAddress": "web.test:80", "dialBeginAt": "+0ms", "dialEndAt": "+1ms",
        "endReason": "closed", "triggeredBy": "other"})
    };
    let trace = of(json!({"traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": "+9ms",
        "httpRequests": [{"traceID": "r", "reqURL": "http://web.test/", "reqMethod": "GET", "reqSentAt": "+3ms",
            "endAt": "+9ms", "endReason": "closed", "respStatusCode": 200, "tcpConn": "c2",
            "attempts": [{"tcpConn": "c1", "failure": "eof_error"}, {"tcpConn": "c2"}, {"tcpConn": "c2"}]}],
        "dials": [dial("d1"), dial("d2")],
        "tcpConns": [{"traceID": "c1", "fromDial": "d1", "connected": true},
            {"traceID": "c2", "fromDial": "d2", "connected": true}]}));
    let spans = exported(&trace);
    let request = spans.only("GET");
    let setups = spans.named("HTTP connection_setup web.test:80");
    assert!(setups.iter().all(|setup| request.links_to(setup)), "{spans:?}");
    assert_eq!((setups.len(), request.links.len()), (2, 2));
    assert_eq!(request.number("http.request.resend_count"), Some(2));
}

#[test]
fn attempts_have_the_address_of_their_socket_and_how_they_ended() {
    let conn = |id: &str, dst: &str, reason: &str| {
        json!({"traceID": id, "fromDial": "d", "connected": reason == "closed",
        "endReason": reason, "failure": "interrupted", "handshakeErr": "another attempt was faster",
        "handshakeBeginAt": "+1ms", "handshakeEndAt": "+2ms",
        "addrTuple": {"srcIP": "", "srcPort": 0, "dstIP": dst, "dstPort": 80}})
    };
    let mut unix = conn("c3", "", "closed");
    unix["unixPath"] = json!("/run/web.sock");
    let trace = of(json!({"traceBeginAt": "2026-01-01T00:00:00Z",
        "dials": [{"traceID": "d", "dstAddress": "[2001:db8::1]:80", "dialBeginAt": "+0ms", "dialEndAt": "+2ms",
            "endReason": "closed", "establishedConn": "c2"}],
        "tcpConns": [conn("c1", "192.0.2.1", "lost-race"), conn("c2", "2001:db8::1", "closed"), unix]}));
    let spans = exported(&trace);
    let setup = spans.only("connection_setup [2001:db8::1]:80");
    assert_eq!((setup.text("server.address"), setup.number("server.port")), ("2001:db8::1".into(), Some(80)));
    let lost = spans.only("socket connect 192.0.2.1:80");
    assert_eq!((lost.text("nettrace.end_reason"), lost.is_error()), ("lost-race".into(), false));
    let won = spans.only("socket connect [2001:db8::1]:80");
    assert_eq!((won.text("network.type"), won.is_error()), ("ipv6".into(), false));
    let unix = spans.only("socket connect /run/web.sock");
    assert_eq!((unix.text("network.transport"), unix.number("network.peer.port")), ("unix".into(), None));
}

#[test]
fn a_socks_handshake_that_failed_is_an_error_of_the_setup() {
    let trace = of(json!({"traceBeginAt": "2026-01-01T00:00:00Z",
        "dials": [{"traceID": "d", "dstAddress": "proxy.test:1080", "dialBeginAt": "+0ms", "dialEndAt": "+2ms",
            "endReason": "closed", "establishedConn": "c"}],
        "tcpConns": [{"traceID": "c", "fromDial": "d", "connected": true, "handshakeBeginAt": "+1ms",
            "handshakeEndAt": "+2ms", "socks": {"target": "web.test:443", "handshakeBeginAt": "+2ms",
            "handshakeEndAt": "+5ms", "handshakeErr": "refused", "failure": "x_proxy_refused",
            "endReason": "failed"}}]}));
    let spans = exported(&trace);
    let setup = spans.only("connection_setup proxy.test:1080");
    let socks = spans.only("SOCKS handshake web.test:443");
    assert_eq!(socks.text("error.type"), "x_proxy_refused");
    assert_eq!(
        (setup.text("error.type"), setup.end_time_unix_nano),
        ("x_proxy_refused".into(), socks.end_time_unix_nano)
    );
    assert_eq!(spans.children_of(setup).len(), 2);
}

#[test]
fn a_setup_has_no_span_while_its_handshake_is_running() {
    let mut trace = json!({"traceBeginAt": "2026-01-01T00:00:00Z",
        "dials": [{"traceID": "d", "dstAddress": "web.test:443", "dialBeginAt": "+0ms", "dialEndAt": "+2ms",
            "endReason": "closed", "establishedConn": "c"}],
        "tcpConns": [{"traceID": "c", "fromDial": "d", "connected": true}],
        "tlsTunnels": [{"traceID": "t", "tcpConn": "c", "handshakeBeginAt": "+2ms"}]});
    assert!(exported(&of(trace.clone())).spans.is_empty());
    trace["tlsTunnels"][0]["handshakeEndAt"] = json!("+3ms");
    assert_eq!(exported(&of(trace)).spans.len(), 2);
}

#[test]
fn a_handshake_on_an_accepted_connection_has_a_trace_of_its_own() {
    let trace = of(json!({"traceBeginAt": "2026-01-01T00:00:00Z",
        "tcpConns": [{"traceID": "c", "accepted": true, "connected": true,
            "addrTuple": {"srcIP": "192.0.2.1", "srcPort": 443, "dstIP": "192.0.2.9", "dstPort": 50000}}],
        "tlsTunnels": [{"traceID": "t", "tcpConn": "c", "accepted": true, "handshakeBeginAt": "+2ms",
            "handshakeEndAt": "+3ms", "handshakeErr": "alert", "failure": "x_tls_alert", "endReason": "failed",
            "alert": "received unknown_ca", "serverName": "web.test"}]}));
    let spans = exported(&trace);
    let span = spans.only("TLS server handshake");
    assert!(span.is_root() && span.is_error(), "{span:?}");
    assert_eq!(
        (span.text("network.peer.address"), span.text("error.type")),
        ("192.0.2.9".into(), "x_tls_alert".into())
    );
}

#[test]
fn a_dns_query_over_https_is_a_child_of_the_lookup_that_needed_it() {
    let trace = of(json!({"traceBeginAt": "2026-01-01T00:00:00Z",
        "httpRequests": [{"traceID": "doh", "reqMethod": "POST", "reqURL": "https://dns.test/dns-query",
            "reqSentAt": "+1ms", "endAt": "+2ms", "respStatusCode": 200, "endReason": "closed"}],
        "dials": [{"traceID": "d", "dstAddress": "web.test:80", "dialBeginAt": "+0ms", "dialEndAt": "+9ms",
            "resolveBeginAt": "+0ms", "resolveEndAt": "+3ms", "endReason": "closed"}],
        "dnsQueries": [{"traceID": "q", "fromDial": "d", "httpReq": "doh", "endReason": "closed"}]}));
    let spans = exported(&trace);
    let (query, lookup) = (spans.only("POST"), spans.only("DNS lookup web.test"));
    assert_eq!((&query.parent_span_id, &query.trace_id), (&lookup.span_id, &lookup.trace_id));
}

#[test]
fn the_first_of_several_requests_with_one_traceparent_is_the_span_that_it_names() {
    let field = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let hop = |id: &str, prev: &str| {
        json!({"traceID": id, "prevHop": prev, "reqMethod": "GET", "traceparent": field,
        "reqURL": "http://web.test/", "reqSentAt": "+1ms", "endAt": "+2ms", "endReason": "closed"})
    };
    let trace =
        of(json!({"traceBeginAt": "2026-01-01T00:00:00Z", "httpRequests": [hop("a", ""), hop("b", "a")]}));
    let spans = exported_with(&OtlpJson::new().traceparent(TraceparentMeaning::Request), &trace);
    let [first, second] = &spans.spans[..] else { panic!("{spans:?}") };
    assert_eq!(
        (first.span_id[..].to_vec(), first.flags),
        (vec![0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7], 0)
    );
    assert!(second.trace_id == first.trace_id && second.is_root());
    let spans = exported(&trace);
    assert!(spans.spans.iter().all(|span| span.parent_span_id == first.span_id), "{spans:?}");
}

#[test]
fn a_request_is_written_with_the_setups_that_it_caused() {
    let request = |id: &str| {
        json!({"traceID": id, "reqURL": "http://web.test/", "reqMethod": "GET", "reqSentAt": "+3ms",
        "endAt": "+9ms", "endReason": "closed", "respStatusCode": 200, "tcpConn": "c"})
    };
    let trace = of(json!({"traceBeginAt": "2026-01-01T00:00:00Z",
        "httpRequests": [request("a"), request("b")],
        "dials": [{"traceID": "d", "dstAddress": "web.test:80", "dialBeginAt": "+0ms", "dialEndAt": "+1ms",
            "endReason": "closed", "triggeredBy": "a", "establishedConn": "c"}],
        "tcpConns": [{"traceID": "c", "fromDial": "d", "connected": true, "handshakeBeginAt": "+0ms",
            "handshakeEndAt": "+1ms"}]}));
    let mut lines = Vec::new();
    let export = OtlpJson::new();
    for request in ["b", "a", "not there"] {
        export.write_request(&trace, request, &mut lines).unwrap();
    }
    let (parts, whole) = (Spans::decode(&lines), exported_with(&export, &trace));
    assert_eq!(
        (parts.spans.len(), lines.iter().filter(|byte| **byte == b'\n').count()),
        (whole.spans.len(), 2)
    );
    assert!(whole.spans.iter().all(|span| parts.spans.contains(span)), "{parts:?}");
}

#[test]
fn traces_of_the_go_package_are_exported() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/peer-json");
    for file in std::fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        let trace: NetTrace = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let spans = exported(&trace);
        let setups = spans.spans.iter().filter(|span| span.name.contains("connection_setup ")).count();
        assert_eq!(setups, trace.dials.len(), "{}", path.display());
        let requests = spans.spans.iter().filter(|span| span.kind == SpanKind::Client as i32).count();
        assert_eq!(requests, trace.http_requests.len(), "{}", path.display());
    }
}

#[test]
fn a_trace_without_an_absolute_begin_is_an_error() {
    for begin in ["undefined", "+1ms", "1969-12-31T23:59:59Z"] {
        let mut trace = with_request(json!({}));
        trace.trace_begin_at = begin.parse().unwrap();
        let error = OtlpJson::new().write(&trace, io::sink()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{begin}");
        assert!(error.to_string().contains("traceBeginAt"), "{error}");
    }
    assert!(written(&OtlpJson::new(), &NetTrace::default()).is_empty());
}

#[test]
fn the_error_of_the_output_is_returned() {
    let mut full = [0_u8; 16];
    let error = OtlpJson::new().write(&with_request(json!({})), &mut full[..]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WriteZero);
}
