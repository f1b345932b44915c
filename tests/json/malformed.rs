//! Malformed traces cause an error with its position, never a panic.

use nettrace::record::NetTrace;
use proptest::prelude::*;
use serde_json::Value;

use super::{FULL, peer::PEER};

fn read(json: Value) -> Result<NetTrace, serde_json::Error> {
    serde_json::from_value(json)
}

#[test]
fn a_truncated_file_is_an_error() {
    let text = PEER[0].1.trim_end();
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
        assert!(serde_json::from_str::<NetTrace>(&text[..end]).is_err(), "{end}");
    }
}

#[test]
fn other_json_is_an_error_but_unknown_fields_are_ignored() {
    for text in ["null", "1", "\"x\"", "[1]", "{\"dials\": {}}", "{\"dials\": [null]}", "{\"dials\": [3]}"] {
        assert!(serde_json::from_str::<NetTrace>(text).is_err(), "{text}");
    }
    let unknown = serde_json::json!({"newer": [1, {"deep": null}], "dials": [{"newer": 1}]});
    assert_eq!(read(unknown).unwrap().dials.len(), 1);
}

#[test]
fn the_error_names_the_line() {
    let error =
        serde_json::from_str::<NetTrace>("{\n  \"description\": \"x\",\n  \"traceEndAt\": \"+1s\"\n}");
    let text = error.unwrap_err().to_string();
    assert!(text.contains("\"+1s\"") && text.contains("line 3"), "{text}");
}

/// Every field in turn gets values of other types, and numbers that are too large, negative or fractional.
#[test]
fn values_of_the_wrong_type_are_errors() {
    let full: Value = serde_json::from_str(FULL).unwrap();
    let wrong: [Value; 8] = [
        Value::Null,
        true.into(),
        (-1).into(),
        0.5.into(),
        u64::MAX.into(),
        "\u{0}".into(),
        Value::Array(vec![Value::Array(Vec::new())]),
        serde_json::json!({"traceID": 1}),
    ];
    let mut pointers = Vec::new();
    all_pointers(&full, String::new(), &mut pointers);
    for pointer in &pointers {
        let rejected = wrong.iter().filter(|value| {
            let mut broken = full.clone();
            *broken.pointer_mut(pointer).unwrap() = (*value).clone();
            read(broken).is_err()
        });
        assert!(rejected.count() >= 5, "{pointer}");
    }
    assert!(pointers.len() > 150);
}

fn all_pointers(value: &Value, at: String, pointers: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                all_pointers(item, format!("{at}/{n}"), pointers);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                all_pointers(field, format!("{at}/{name}"), pointers);
            }
        }
        _ => {}
    }
    if !at.is_empty() {
        pointers.push(at);
    }
}

proptest! {
    #[test]
    fn randomly_changed_bytes_cause_no_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let mut bytes = FULL.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(trace) = serde_json::from_slice::<NetTrace>(&bytes) {
            // A trace that can be read survives a round trip.
            let written = serde_json::to_string(&trace.precise()).unwrap();
            prop_assert_eq!(serde_json::from_str::<NetTrace>(&written).unwrap(), trace);
        }
    }
}
