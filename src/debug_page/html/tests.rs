//! Traces in which every text is hostile.

use super::*;
use crate::{
    debug_page::{
        query::Query,
        switches::{Switch, SwitchState},
    },
    explain::Explanation,
    record::NetTrace,
    view,
};
use html5gum::{Token, Tokenizer};
use serde_json::{Value, json};

const HOSTILE: &str = "</pre></title></script><script>alert(1)</script><a onclick='x' href=\"javascript:x\">\u{1b}[31m\r\u{202e}&";

/// Adds hostile text to every text but times and names that have a meaning.
fn poison(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(poison),
        Value::Object(fields) => fields.values_mut().for_each(poison),
        Value::String(text) if ["failed", "closed", "failure"].contains(&&**text) => {}
        Value::String(text) if text.parse::<crate::Timestamp>().is_err() => text.push_str(HOSTILE),
        _ => {}
    }
}

fn trace() -> NetTrace {
    let mut json = json!({
        "description": "d", "traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": "+900ms",
        "httpRequests": [
            {"traceID": "s", "accepted": true, "reqMethod": "GET", "reqURL": "http://shop.test/", "reqSentAt": "+1ms",
             "respRecvAt": "+5ms", "endAt": "+6ms", "respStatusCode": 503, "endReason": "closed", "tcpConn": "c"},
            {"traceID": "r", "triggeredBy": "s", "reqMethod": "GET", "reqURL": "https://pay.test/x?y", "reqSentAt": "+2ms",
             "endAt": "+4ms", "failure": "x_", "reqError": "e", "endReason": "failed", "traceparent": "t",
             "tags": {"a": "b"}, "grpcStatus": 14, "grpcMessage": "m",
             "reqHeader": [{"fieldName": "n", "fieldVal": "v"}], "respHeader": [{"fieldName": "n", "fieldVal": "v"}]},
        ],
        "dials": [{"traceID": "d", "triggeredBy": "r", "dstAddress": "pay.test:443", "dialBeginAt": "+2ms",
            "dialEndAt": "+4ms", "dialErr": "e", "failure": "connection_refused", "endReason": "failed"}],
        "tcpConns": [{"traceID": "t", "fromDial": "d", "handshakeBeginAt": "+2ms", "handshakeEndAt": "+3ms",
            "failure": "connection_refused", "endReason": "failed", "handshakeErr": "e",
            "addrTuple": {"srcIP": "1", "srcPort": 1, "dstIP": "2", "dstPort": 2}}],
        "dropped": {"httpRequests": 7},
    });
    poison(&mut json);
    serde_json::from_value(json).unwrap()
}

fn explanation() -> Explanation {
    let finding = json!({"code": "c", "severity": "failure", "about": "a", "sentence": "s", "suggestion": "t",
        "evidence": [{"record": "r", "field": "f", "value": "v", "at": "+1ms"}], "notSeen": ["n"]});
    let mut json = json!({
        "findings": [{"code": "c", "severity": "failure", "about": "a", "count": 9, "sentence": "s", "suggestion": "t",
            "subjects": ["r", "d"]}],
        "verdicts": [{"subject": "r", "what": "w", "outcome": "failed", "findings": [finding]}],
    });
    poison(&mut json);
    serde_json::from_value(json).unwrap()
}

/// Asserts that a page has the tags that it has of its own alone.
#[track_caller]
fn assert_harmless(page: &str) {
    let (head, rest) = page.split_once("<style>").unwrap();
    let (style, rest) = rest.split_once("</style>").unwrap();
    let (body, script) = rest.rsplit_once("<script>").unwrap();
    assert_eq!((style, script), (csp::STYLE, &*format!("{}</script></body></html>", csp::SCRIPT)));
    for part in [head, body] {
        let control = part.find(|c: char| c.is_control() && c != '\n' || c == '\u{202e}');
        assert_eq!(control.map(|at| &part[at.saturating_sub(200)..at]), None);
        for Ok(token) in Tokenizer::new(part) {
            match token {
                Token::StartTag(tag) => {
                    assert_ne!(tag.name.as_slice(), b"script");
                    for (name, value) in &tag.attributes {
                        assert!(!name.starts_with(b"on"), "{name:?}");
                        assert!(name.as_slice() != b"href" || !value.starts_with(b"javascript"), "{value:?}");
                    }
                }
                Token::EndTag(tag) => assert_ne!(tag.name.as_slice(), b"script"),
                Token::Error(error) => panic!("{error:?}"),
                Token::String(_) | Token::Comment(_) | Token::Doctype(_) => {}
            }
        }
        assert_eq!(part.matches("<pre").count(), part.matches("</pre>").count());
        assert_eq!(part.matches("<title").count(), part.matches("</title>").count());
    }
    assert!(body.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "the text is shown");
}

#[test]
fn hostile_text_in_any_field_does_nothing() {
    let trace = trace();
    let query =
        Query::parse(&Query::default().with(&[("code", Some(HOSTILE)), ("host", Some(HOSTILE))])).unwrap();
    let all = Query::default();
    let frame = |query| Frame {
        title: HOSTILE,
        base: "",
        query,
        switches: Switch::ALL.map(|switch| (switch, SwitchState::On)),
        read_only: false,
    };
    let explanation = explanation();
    assert_harmless(&requests(&frame(&all), &trace));
    assert_harmless(&requests(&frame(&query), &trace));
    assert_harmless(&summary(&frame(&all), &trace, &view::summary(&trace), &explanation));
    assert_harmless(&not_found(&frame(&query)));
    assert_harmless(&problem(&frame(&query), HOSTILE, "gone"));
    for of in &trace.http_requests {
        let slice = trace.slice(&of.trace_id);
        let verdict = explanation.verdicts.first();
        assert_harmless(&request(&frame(&all), &trace, &slice, of, verdict));
    }
}
