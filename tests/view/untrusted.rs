//! Texts and times that a peer, or a damaged file, put into a trace.

use nettrace::view;
use proptest::prelude::*;
use serde_json::Value;

use crate::fixture::{EVERYTHING, FULL, PEER, of};

/// Returns the control characters of a drawing, without the colour codes that the drawing itself uses.
fn harmful(drawing: &str) -> String {
    let mut rest = drawing.to_owned();
    for code in ["0", "1", "1;31", "31", "32", "33", "34", "35", "36", "90", "94"] {
        rest = rest.replace(&format!("\x1b[{code}m"), "");
    }
    rest.chars().filter(|c| (c.is_control() && *c != '\n') || ('\u{202a}'..='\u{202e}').contains(c)).collect()
}

#[test]
fn what_comes_from_the_network_cannot_control_the_terminal() {
    fn poison(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(poison),
            Value::Object(fields) => fields.values_mut().for_each(poison),
            Value::String(text) if text.parse::<nettrace::Timestamp>().is_err() => {
                text.push_str("\x1b]0;owned\x07\u{9b}31m\r\n\u{202e}");
            }
            _ => {}
        }
    }
    for json in PEER.iter().copied().chain([EVERYTHING, FULL]) {
        let mut value: Value = serde_json::from_str(json).unwrap();
        poison(&mut value);
        let trace = of(value);
        for color in [false, true] {
            let drawing = view::waterfall(&trace).color(color).headers(true).to_string();
            assert_eq!(harmful(&drawing), "", "{drawing:?}");
        }
    }
}

/// Replaces every time by one of `times`, and forgets every fourth text that is none.
fn distort(value: &mut Value, times: &mut impl Iterator<Item = usize>) {
    const ODD: &[&str] = &[
        "undefined",
        "+0ms",
        "+1ms",
        "+3.000001ms",
        "+18446744073709ms",
        "+999999999999999999ms",
        "0001-01-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "1969-12-31T23:59:59.999999999Z",
        "2026-11-23T13:27:07.268Z",
        "9999-12-31T23:59:59.999999999Z",
    ];
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| distort(item, times)),
        Value::Object(fields) => fields.values_mut().for_each(|field| distort(field, times)),
        Value::String(text) => {
            let pick = times.next().unwrap();
            if text.parse::<nettrace::Timestamp>().is_ok() {
                *text = ODD[pick % ODD.len()].into();
            } else if pick.is_multiple_of(4) {
                text.clear();
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn odd_traces_are_drawn_as_well_as_can_be(
        which in 0..PEER.len() + 2,
        picks in prop::collection::vec(0usize..1000, 64),
        width in 0usize..300,
    ) {
        let json = PEER.iter().copied().chain([EVERYTHING, FULL]).nth(which).unwrap();
        let mut value: Value = serde_json::from_str(json).unwrap();
        distort(&mut value, &mut picks.into_iter().cycle());
        let trace = of(value);
        let drawing = view::waterfall(&trace).width(width).headers(true).to_string();
        prop_assert_eq!(harmful(&drawing), "");
        for url in trace.http_requests.iter().map(|request| &request.req_url) {
            prop_assert!(drawing.contains(url.as_str()));
        }
    }
}
