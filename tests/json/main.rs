//! Traces as JSON: files of the Go package, files of this crate, and the schema.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use nettrace::TraceSink;
use nettrace::record::{Failure, JSON_SCHEMA, NetTrace};
use serde_json::Value;

mod generated;
mod malformed;
mod peer;

fn schema() -> Value {
    serde_json::from_str(JSON_SCHEMA).unwrap()
}

static VALIDATOR: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| jsonschema::validator_for(&schema()).unwrap());

fn assert_valid(name: &str, trace: &Value) {
    let errors: Vec<_> =
        VALIDATOR.iter_errors(trace).map(|e| format!("{name}{}: {e}", e.instance_path())).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

/// A trace with every field.
const FULL: &str = include_str!("../data/full.json");

#[test]
fn every_field_reads_and_writes_back() {
    let expected: Value = serde_json::from_str(FULL).unwrap();
    let trace: NetTrace = serde_json::from_str(FULL).unwrap();
    assert_eq!(serde_json::to_value(&trace).unwrap(), expected);
    assert_valid("full", &expected);
}

#[test]
fn the_schema_and_the_full_trace_have_the_same_fields() {
    let schema = schema();
    let mut seen = BTreeSet::new();
    fields_of(&schema, &schema, "NetTrace", &serde_json::from_str(FULL).unwrap(), &mut seen);
    let described = |(name, part): (&str, &Value)| {
        let fields = part["properties"].as_object().into_iter().flat_map(|fields| fields.keys());
        fields.map(|field| format!("{name}.{field}")).collect::<Vec<_>>()
    };
    let parts = schema["$defs"].as_object().unwrap().iter().map(|(name, part)| (name.as_str(), part));
    let all: BTreeSet<String> = parts.chain([("NetTrace", &schema)]).flat_map(described).collect();
    assert_eq!(seen, all);
}

fn fields_of(schema: &Value, part: &Value, name: &str, value: &Value, seen: &mut BTreeSet<String>) {
    if let Some(reference) = part["$ref"].as_str() {
        let name = reference.strip_prefix("#/$defs/").unwrap();
        return fields_of(schema, &schema["$defs"][name], name, value, seen);
    }
    match value {
        Value::Array(items) => {
            items.iter().for_each(|item| fields_of(schema, &part["items"], name, item, seen))
        }
        // In an object without `properties`, the names are data.
        Value::Object(fields) if part["properties"].is_object() => {
            for (field, value) in fields {
                seen.insert(format!("{name}.{field}"));
                fields_of(schema, &part["properties"][field], name, value, seen);
            }
        }
        _ => {}
    }
}

#[test]
fn the_schema_is_valid_and_rejects_wrong_values() {
    assert!(jsonschema::meta::is_valid(&schema()));
    let full: Value = serde_json::from_str(FULL).unwrap();
    for (pointer, wrong) in [
        ("/traceBeginAt", "+0ms".into()),
        ("/traceEndAt", "1ms".into()),
        ("/traceEndAt", "+4294967296ms".into()),
        ("/traceEndAt", "+5000000000ms".into()),
        ("/traceEndAt", "+1.0000001ms".into()),
        ("/traceEndAt", "2026-02-31T10:00:00Z".into()),
        ("/traceEndAt", "2026-04-31T10:00:00Z".into()),
        ("/traceEndAt", "2026-02-29T10:00:00Z".into()),
        ("/traceEndAt", "2100-02-29T10:00:00Z".into()),
        ("/dials/0/failure", "Some text".into()),
        ("/dials/0/failure", "connection_refuesd".into()),
        ("/dials/0/failure", "x_".into()),
        ("/dials/0/sourceIP", "1.2.3.999".into()),
        ("/tcpConns/0/addrTuple/srcIP", "1.2.3".into()),
        ("/tcpConns/0/addrTuple/srcIP", "web.test".into()),
        ("/tcpConns/0/addrTuple/dstIP", "1:2:3:4:5:6:7:8:9".into()),
        ("/tcpConns/0/addrTuple/dstIP", "fe80::12345".into()),
        ("/tcpConns/0/icmpError/origin", "router".into()),
        ("/httpRequests/0/RespContentLen", serde_json::from_str("1180591620717411303424").unwrap()),
        ("/dials/0/endReason", "gone".into()),
        ("/tcpConns/0/conntrack/status", "assured|".into()),
        ("/tcpConns/0/addrTuple/dstPort", 65_536.into()),
        ("/tlsTunnels/0/peerCerts/0/sha256", "AB".into()),
        ("/httpRequests/0/traceID", "".into()),
        ("/httpRequests/0/unheardOf", 1.into()),
    ] {
        let mut broken = full.clone();
        match broken.pointer_mut(pointer) {
            Some(field) => *field = wrong,
            None => {
                let (parent, field) = pointer.rsplit_once('/').unwrap();
                broken.pointer_mut(parent).unwrap()[field] = wrong;
            }
        }
        assert!(!VALIDATOR.is_valid(&broken), "{pointer}");
    }
}

#[test]
fn the_schema_allows_every_value_that_is_written() {
    let full: Value = serde_json::from_str(FULL).unwrap();
    let known = Failure::KNOWN.iter().map(Failure::as_str).map(|word| ("/dials/0/failure", word));
    let own = ["x_new_word", "unknown_failure: Some text"].map(|word| ("/dials/0/failure", word));
    let addresses =
        ["", "0.0.0.0", "255.249.199.99", "::", "::1", "fe80::1%eth0", "::ffff:10.0.0.1", "1:2:3:4:5:6:7:8"];
    let addresses = addresses.map(|ip| ("/tcpConns/0/addrTuple/srcIP", ip));
    let times = [
        "undefined",
        "+0ms",
        "+4294967295ms",
        "+4294967294.999999ms",
        "2024-02-29T23:59:59.123456789+13:45",
        "2000-02-29T00:00:00Z",
        "2026-12-31T00:00:00-07:00",
    ];
    let times = times.map(|time| ("/traceEndAt", time));
    for (pointer, right) in known.chain(own).chain(addresses).chain(times) {
        let mut changed = full.clone();
        *changed.pointer_mut(pointer).expect("a field") = right.into();
        assert_valid(right, &changed);
    }
    assert_valid("the largest", &{
        let mut changed = full;
        changed["httpRequests"][0]["RespContentLen"] = u64::MAX.into();
        changed
    });
}

#[test]
fn every_integer_in_the_schema_has_bounds() {
    fn check(path: &str, part: &Value) {
        if part["type"] == "integer" {
            assert!(part["minimum"].is_u64() && part["maximum"].is_u64(), "{path}");
        }
        if let Some(fields) = part.as_object() {
            fields.iter().for_each(|(name, part)| check(&format!("{path}/{name}"), part));
        }
    }
    check("", &schema());
}

#[test]
fn only_precise_json_has_fractions_of_milliseconds() {
    let text = FULL.replace("\"+1ms\"", "\"+1.000001ms\"");
    assert_ne!(text, FULL);
    let trace: NetTrace = serde_json::from_str(&text).unwrap();
    let whole = serde_json::to_value(&trace).unwrap();
    let precise = serde_json::to_value(trace.precise()).unwrap();
    assert_eq!(whole, serde_json::from_str::<Value>(FULL).unwrap());
    assert_ne!(precise, whole);
    assert_eq!(precise["dials"][0]["dialBeginAt"], "+1.000001ms");
    assert_eq!(precise["traceBeginAt"], whole["traceBeginAt"]);
    assert_valid("precise", &precise);
    assert_eq!(serde_json::from_value::<NetTrace>(precise).unwrap(), trace);
}

#[test]
fn empty_traces_are_valid() {
    let trace: NetTrace = serde_json::from_str("{}").unwrap();
    assert_eq!(trace, NetTrace::default());
    assert_valid("empty", &serde_json::to_value(&trace).unwrap());
    assert_valid("a disabled sink", &serde_json::to_value(TraceSink::disabled().snapshot("off")).unwrap());
    assert_eq!(
        serde_json::to_string(&trace).unwrap(),
        r#"{"description":"","traceBeginAt":"undefined","traceEndAt":"undefined","dials":[],"tcpConns":[],"udpConns":[],"dnsQueries":[],"tlsTunnels":[],"httpRequests":[]}"#
    );
}
