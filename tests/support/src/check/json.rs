//! The JSON of a trace conforms to the schema, and the precise JSON reads back as the same trace.

use std::sync::LazyLock;

use nettrace::NetTrace;
use nettrace::record::JSON_SCHEMA;
use serde_json::Value;

use super::Problems;

static VALIDATOR: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema = serde_json::from_str(JSON_SCHEMA).expect("the schema is JSON");
    jsonschema::validator_for(&schema).expect("the schema is a valid JSON Schema")
});

pub(super) fn find_problems(trace: &NetTrace, problems: &mut Problems) {
    let whole = serde_json::to_value(trace).expect("a trace is JSON");
    let precise = serde_json::to_value(trace.precise()).expect("a trace is JSON");
    for (how, json) in [("JSON", &whole), ("precise JSON", &precise)] {
        for error in VALIDATOR.iter_errors(json) {
            problems.expect(false, how, format!("{}: {error}", error.instance_path()));
        }
    }
    problems.expect(
        read(&precise).as_ref() == Ok(trace),
        "precise JSON",
        "does not read back as the same trace",
    );
    let again = read(&whole).map(|trace| serde_json::to_value(trace).expect("a trace is JSON"));
    problems.expect(again == Ok(whole), "JSON", "changes when it is read and written again");
}

fn read(json: &Value) -> Result<NetTrace, String> {
    serde_json::from_value(json.clone()).map_err(|error| error.to_string())
}
