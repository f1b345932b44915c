//! [`Relocation`]: what is changed in a trace that becomes part of another one.
//!
//! Traces of several processes have equal identifiers, and each has times relative to its own begin. Both are changed
//! while a trace is deserialised from its own JSON: every identifier and every time passes through one place there, so
//! that a new field of a record cannot be forgotten.

use std::cell::Cell;

use compact_str::CompactString;

use crate::scoped;

/// Changes of identifiers and times.
pub(super) struct Relocation {
    /// Put before each identifier.
    pub(super) prefix: CompactString,
    /// Added to each relative time.
    pub(super) shift_nanos: u64,
}

thread_local! {
    /// Set while a trace is deserialised to be relocated.
    static RELOCATION: Cell<Option<Relocation>> = const { Cell::new(None) };
}

impl Relocation {
    /// Runs `f`. What it deserialises is relocated.
    pub(super) fn scope<R>(self, f: impl FnOnce() -> R) -> R {
        scoped::scope(&RELOCATION, self, f)
    }
}

/// Returns an identifier as it is to be deserialised.
pub(super) fn identifier(id: CompactString) -> CompactString {
    let prefixed = |relocation: &mut Relocation| {
        let mut prefixed = relocation.prefix.clone();
        prefixed.push_str(&id);
        prefixed
    };
    // The empty identifier refers to nothing.
    if id.is_empty() { id } else { scoped::with_current(&RELOCATION, prefixed).unwrap_or(id) }
}

/// Returns a relative time as it is to be deserialised.
pub(super) fn relative_nanos(nanos: u64) -> u64 {
    let shifted = |relocation: &mut Relocation| nanos.saturating_add(relocation.shift_nanos);
    scoped::with_current(&RELOCATION, shifted).unwrap_or(nanos)
}

#[cfg(test)]
mod tests {
    use crate::record::{NetTrace, Timestamp};
    use serde_json::Value;

    /// A trace with every field.
    const FULL: &str = include_str!("../../tests/data/full.json");

    /// Changes each text that is a relative time, or the identifier of a record in `full.json`.
    fn change(value: &mut Value) {
        match value {
            Value::String(text) if text.starts_with("tid-") => *text = format!("a.{text}"),
            Value::String(text) => {
                let millis =
                    text.strip_prefix('+').and_then(|text| text.strip_suffix("ms")?.parse::<u64>().ok());
                if let Some(millis) = millis {
                    *text = format!("+{}ms", millis + 946);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(change),
            Value::Object(fields) => fields.values_mut().for_each(change),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    #[test]
    fn every_identifier_and_every_time_is_changed() {
        let trace: NetTrace = serde_json::from_str(FULL).unwrap();
        let begin = "2026-11-23T13:27:02.000434109+01:00";
        let mut expected: Value = serde_json::from_str(FULL).unwrap();
        change(&mut expected);
        expected["traceBeginAt"] = begin.into();
        let relocated = trace.relocated("a.", begin.parse().unwrap()).unwrap();
        assert_eq!(serde_json::to_value(&relocated).unwrap(), expected);
        let read: NetTrace = serde_json::from_str(FULL).unwrap();
        assert_eq!(read, trace, "nothing of it is left");
    }

    #[test]
    fn nothing_is_moved_to_an_undefined_begin() {
        let trace: NetTrace = serde_json::from_str(FULL).unwrap();
        assert_eq!(trace.relocated("", Timestamp::UNDEFINED).unwrap(), trace);
        let timeless = NetTrace { trace_begin_at: Timestamp::UNDEFINED, ..trace.clone() };
        assert_eq!(timeless.relocated("", trace.trace_begin_at).unwrap(), timeless);
    }
}
