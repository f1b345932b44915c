//! Random documents, generated from the JSON schema.

use nettrace::{
    record::{Failure, Histogram, NetTrace, RequestFilter},
    view,
};
use proptest::{prelude::*, string::string_regex};
use serde_json::{Map, Value};
use std::time::Duration;

use super::{assert_valid, schema};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn documents_that_the_schema_allows_survive_a_round_trip(json in document()) {
        let trace: NetTrace = serde_json::from_value(json.clone()).unwrap();
        let written = serde_json::to_value(&trace).unwrap();
        assert_valid("", &written);
        prop_assert_eq!(&written, &json);
        prop_assert_eq!(&serde_json::from_value::<NetTrace>(written).unwrap(), &trace);

        let precise = serde_json::to_string(&trace.precise()).unwrap();
        prop_assert_eq!(&serde_json::from_str::<NetTrace>(&precise).unwrap(), &trace);
    }

    #[test]
    fn slices_are_parts_of_their_trace(json in document()) {
        let trace: NetTrace = serde_json::from_value(json).unwrap();
        for request in &trace.http_requests {
            let slice = trace.slice(&request.trace_id);
            prop_assert!(slice.http_requests.get(&request.trace_id).is_some());
            prop_assert!(slice.dials.iter().all(|dial| trace.dials.contains(dial)));
            prop_assert!(slice.tcp_conns.iter().all(|conn| trace.tcp_conns.contains(conn)));
            let _ = request.timings(&slice).to_string();
        }
    }

    #[cfg(feature = "explain")]
    #[test]
    fn any_trace_can_be_explained(json in document()) {
        let trace: NetTrace = serde_json::from_value(json).unwrap();
        let explanation = nettrace::explain::explain(&trace);
        for verdict in &explanation.verdicts {
            prop_assert!(!verdict.findings.is_empty());
            let _ = verdict.to_string();
        }
        let _ = explanation.to_string();
    }

    #[test]
    fn any_trace_can_be_filtered_and_summarized(json in document()) {
        let trace: NetTrace = serde_json::from_value(json).unwrap();
        let requests: Vec<_> = trace.http_requests.iter().map(|request| &request.trace_id).collect();
        let _ = view::summary(&trace).to_string();
        let _ = view::table(&trace).to_string();
        let failed = RequestFilter::new().failed(true).slowest_first(true);
        prop_assert!(trace.requests(&failed).iter().all(|request| requests.contains(&&request.trace_id)));
        prop_assert!(trace.select(&failed).http_requests.iter().all(|request| trace.http_requests.contains(request)));
    }
}

fn document() -> BoxedStrategy<Value> {
    let schema = schema();
    value(&schema, &schema, true)
}

/// Returns a strategy for values that `part` of the schema allows and that are written back as they are read.
///
/// An optional field never has the value that it has when it is absent, because that would not be written.
fn value(schema: &Value, part: &Value, required: bool) -> BoxedStrategy<Value> {
    if let Some(reference) = part["$ref"].as_str() {
        let name = reference.strip_prefix("#/$defs/").unwrap();
        return definition(schema, name, required, part);
    }
    if let Some(names) = part["enum"].as_array() {
        return prop::sample::select(names.clone()).boxed();
    }
    match part["type"].as_str().or(part["type"][0].as_str()).unwrap() {
        "object" if part["properties"].is_null() => {
            let values = value(schema, &part["additionalProperties"], true);
            let fields = prop::collection::btree_map("[a-z]{1,6}", values, 1..4);
            fields.prop_map(|fields| Value::Object(fields.into_iter().collect())).boxed()
        }
        "object" => object(schema, part),
        "array" => {
            let size = if required { 0..4usize } else { 1..4 };
            prop::collection::vec(value(schema, &part["items"], true), size).prop_map(Value::from).boxed()
        }
        "integer" => {
            let min = part["minimum"].as_u64().unwrap().max(if required { 0 } else { 1 });
            let max = part["maximum"].as_u64().unwrap_or(u64::MAX);
            prop_oneof![min..=max, Just(min), Just(max)].prop_map(Value::from).boxed()
        }
        "boolean" => {
            if required { any::<bool>().boxed() } else { Just(true).boxed() }.prop_map(Value::from).boxed()
        }
        "string" if part["pattern"].is_string() => {
            let pattern = part["pattern"].as_str().unwrap().trim_matches(['^', '$']);
            string_regex(pattern).unwrap().prop_map(Value::from).boxed()
        }
        "string" => if required { "\\PC{0,6}" } else { "\\PC{1,6}" }.prop_map(Value::from).boxed(),
        other => unreachable!("{other}"),
    }
}

fn histogram(micros: &[u32]) -> Value {
    let mut histogram = Histogram::default();
    micros.iter().for_each(|micros| histogram.add(Duration::from_micros((*micros).into())));
    serde_json::to_value(histogram).unwrap()
}

fn object(schema: &Value, part: &Value) -> BoxedStrategy<Value> {
    let required = part["required"].as_array().cloned().unwrap_or_default();
    let fields: Vec<_> = part["properties"].as_object().unwrap().iter().collect();
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, part)| {
            let name = name.clone();
            let is_required = required.contains(&Value::from(name.as_str()));
            let present = if is_required { Just(true).boxed() } else { any::<bool>().boxed() };
            (present, value(schema, part, is_required))
                .prop_map(move |(present, v)| present.then(|| (name.clone(), v)))
        })
        .collect();
    let min_fields = part["minProperties"].as_u64().unwrap_or(0) as usize;
    fields
        .prop_map(|fields| fields.into_iter().flatten().collect::<Map<_, _>>())
        .prop_filter("enough fields", move |fields| fields.len() >= min_fields)
        .prop_map(Value::Object)
        .boxed()
}

/// Returns a strategy for a definition, which may restrict values further than their type. `reference` may narrow it.
fn definition(schema: &Value, name: &str, required: bool, reference: &Value) -> BoxedStrategy<Value> {
    let part = &schema["$defs"][name];
    let text = match name {
        "TraceId" if required && reference["minLength"].is_null() => "[a-f]?".boxed(),
        "TraceId" => "[a-f]".boxed(),
        "Timestamp" => {
            let absolute_time = "202[0-9]-(0[1-9]|1[0-2])-(1[0-9]|2[0-8])T[01][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-][01][0-9]:[0-5][0-9])";
            let relative = (0..=u32::MAX).prop_map(|ms| format!("+{ms}ms"));
            match (reference["pattern"].is_string(), required) {
                (true, _) => absolute_time.boxed(),
                (false, true) => prop_oneof![absolute_time, relative, Just("undefined".to_owned())].boxed(),
                (false, false) => prop_oneof![absolute_time, relative].boxed(),
            }
        }
        "Failure" => prop_oneof![
            prop::sample::select(Failure::KNOWN).prop_map(|known| known.as_str().to_owned()),
            "x_[a-z0-9_]{1,12}",
            "unknown_failure: \\PC{0,6}",
        ]
        .boxed(),
        "IpAddress" => {
            let addresses = prop_oneof![
                any::<std::net::IpAddr>().prop_map(|ip| ip.to_string()),
                any::<std::net::Ipv6Addr>().prop_map(|ip| format!("{ip}%eth0")),
            ];
            if required { prop_oneof![addresses, Just(String::new())].boxed() } else { addresses.boxed() }
        }
        "ConntrackStatus" => {
            let flags = [
                "seen-reply",
                "assured",
                "confirmed",
                "src-nat",
                "dying",
                "offload",
                "hw-offload",
                "0x10000",
            ];
            prop::sample::subsequence(flags.to_vec(), 0..=8).prop_map(|flags| flags.join("|")).boxed()
        }
        // Its buckets have fixed bounds.
        "Histogram" => {
            let durations = prop::collection::vec(any::<u32>(), 1..9);
            return durations.prop_map(|durations| histogram(&durations)).boxed();
        }
        "TruncatedFields" => {
            let fields = prop::collection::btree_map("[a-zA-Z]{1,8}", 1..u64::MAX, 1..3);
            return fields.prop_map(|fields| serde_json::to_value(fields).unwrap()).boxed();
        }
        "TcpState" => {
            let written = |name: &Value| !matches!(name.as_str(), Some("none" | "sync-recv"));
            let names = part["enum"].as_array().unwrap().iter().filter(|name| written(name));
            return prop::sample::select(names.cloned().collect::<Vec<_>>()).boxed();
        }
        _ => return value(schema, part, required),
    };
    text.prop_map(Value::from).boxed()
}
