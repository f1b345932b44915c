//! Traces as JSON: those that the Go package wrote, and our own.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use nettrace::record::{JSON_SCHEMA, NetTrace};
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

/// A trace with every field that there is.
const FULL: &str = include_str!("../data/full.json");

#[test]
fn every_field_reads_and_writes_back() {
    let expected: Value = serde_json::from_str(FULL).unwrap();
    let trace: NetTrace = serde_json::from_str(FULL).unwrap();
    assert_eq!(serde_json::to_value(&trace).unwrap(), expected);
    assert_valid("full", &expected);
}

/// The schema describes no field that is never written, and a full trace shows them all.
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
        // Else its names are not the schema's.
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
fn the_schema_is_one() {
    assert!(jsonschema::meta::is_valid(&schema()));
    let full: Value = serde_json::from_str(FULL).unwrap();
    for (pointer, wrong) in [
        ("/traceBeginAt", "+0ms".into()),
        ("/traceEndAt", "1ms".into()),
        ("/dials/0/failure", "Some text".into()),
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
fn precise_times() {
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
fn a_trace_of_nothing() {
    let trace: NetTrace = serde_json::from_str("{}").unwrap();
    assert_eq!(trace, NetTrace::default());
    assert_eq!(
        serde_json::to_string(&trace).unwrap(),
        r#"{"description":"","traceBeginAt":"undefined","traceEndAt":"undefined","dials":[],"tcpConns":[],"udpConns":[],"dnsQueries":[],"tlsTunnels":[],"httpRequests":[]}"#
    );
}
