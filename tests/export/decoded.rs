//! Spans as a reader of OTLP sees them.

use nettrace::{NetTrace, Timestamp, TraceId};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value as Attribute},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use serde_json::Value;
use std::collections::HashSet;

/// The spans of a trace.
#[derive(Debug)]
pub(crate) struct Spans {
    pub(crate) spans: Vec<Span>,
    pub(crate) resource: Vec<KeyValue>,
}

impl Spans {
    /// Decodes lines, and asserts what holds for every export.
    #[track_caller]
    pub(crate) fn decode(lines: &[u8]) -> Self {
        let (mut spans, mut resource) = (Vec::new(), Vec::new());
        for line in std::str::from_utf8(lines).unwrap().lines() {
            let request: ExportTraceServiceRequest = serde_json::from_str(line).unwrap();
            // Reading ignores fields that do not exist. So what was read must have all that was written.
            assert_part(&serde_json::from_str(line).unwrap(), &serde_json::to_value(&request).unwrap());
            let [part] = &request.resource_spans[..] else { panic!("{line}") };
            let [scope] = &part.scope_spans[..] else { panic!("{line}") };
            assert_eq!(scope.scope.as_ref().unwrap().name, "nettrace");
            assert!(!scope.spans.is_empty(), "{line}");
            resource = part.resource.clone().unwrap().attributes;
            spans.extend(scope.spans.iter().cloned());
        }
        let mut ids = HashSet::new();
        for span in &spans {
            assert!(ids.insert(span.span_id.clone()), "a second span with the same identifier: {span:?}");
            assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8), "{span:?}");
            assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
            let parent = spans.iter().find(|parent| parent.span_id == span.parent_span_id);
            assert!(parent.is_none_or(|parent| parent.trace_id == span.trace_id), "{span:?}");
        }
        Spans { spans, resource }
    }

    /// Returns the only span with this name.
    #[track_caller]
    pub(crate) fn only(&self, name: &str) -> &Span {
        let [span] = &self.named(name)[..] else { panic!("not one {name} in {:?}", self.names()) };
        span
    }

    pub(crate) fn named(&self, name: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.name == name).collect()
    }

    /// Returns the span of the request with this identifier.
    #[track_caller]
    pub(crate) fn request(&self, id: &TraceId) -> &Span {
        let is_request =
            |span: &&Span| span.kind == SpanKind::Client as i32 || span.kind == SpanKind::Server as i32;
        let found = self.spans.iter().filter(is_request).find(|span| span.text("nettrace.id") == id.as_str());
        found.unwrap_or_else(|| panic!("{id} is not in {:?}", self.names()))
    }

    #[track_caller]
    pub(crate) fn children_of(&self, parent: &Span) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.parent_span_id == parent.span_id).collect()
    }

    fn names(&self) -> Vec<&str> {
        self.spans.iter().map(|span| span.name.as_str()).collect()
    }
}

/// Asserts that everything in a value is in another one, too.
#[track_caller]
fn assert_part(part: &Value, whole: &Value) {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            part.iter().for_each(|(key, value)| assert_part(value, whole.get(key).unwrap_or(&Value::Null)));
        }
        (Value::Array(part), Value::Array(whole)) if part.len() == whole.len() => {
            part.iter().zip(whole).for_each(|(part, whole)| assert_part(part, whole));
        }
        _ => assert_eq!(part, whole),
    }
}

/// What the tests look at.
pub(crate) trait SpanExt {
    /// Returns an attribute as text, empty if there is none.
    fn text(&self, key: &str) -> String;
    /// Returns the number of an attribute.
    fn number(&self, key: &str) -> Option<i64>;
    fn is_error(&self) -> bool;
    fn is_root(&self) -> bool;
    /// Returns `true` if the span has a link to another one.
    fn links_to(&self, other: &Span) -> bool;
    /// Asserts both times, to the nanosecond.
    fn assert_times(&self, trace: &NetTrace, begin: Timestamp, end: Timestamp);
}

impl SpanExt for Span {
    #[track_caller]
    fn text(&self, key: &str) -> String {
        match value(&self.attributes, key) {
            Some(Attribute::StringValue(text)) => text.clone(),
            Some(Attribute::ArrayValue(list)) => {
                let texts = list.values.iter().map(|value| match &value.value {
                    Some(Attribute::StringValue(text)) => text.as_str(),
                    other => panic!("{other:?}"),
                });
                texts.collect::<Vec<_>>().join(" ")
            }
            None => String::new(),
            other => panic!("{key}: {other:?}"),
        }
    }

    #[track_caller]
    fn number(&self, key: &str) -> Option<i64> {
        match value(&self.attributes, key)? {
            Attribute::IntValue(number) => Some(*number),
            other => panic!("{key}: {other:?}"),
        }
    }

    fn is_error(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.code == StatusCode::Error as i32)
    }

    fn is_root(&self) -> bool {
        self.parent_span_id.is_empty()
    }

    fn links_to(&self, other: &Span) -> bool {
        self.links.iter().any(|link| (&link.trace_id, &link.span_id) == (&other.trace_id, &other.span_id))
    }

    #[track_caller]
    fn assert_times(&self, trace: &NetTrace, begin: Timestamp, end: Timestamp) {
        let nanos = |time| u64::try_from(trace.trace_begin_at.add(time).unix_nanos().unwrap()).unwrap();
        let times = (self.start_time_unix_nano, self.end_time_unix_nano);
        assert_eq!(times, (nanos(begin), nanos(end)), "{}", self.name);
    }
}

/// Returns the value of an attribute.
pub(crate) fn value<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Attribute> {
    let mut found = attributes.iter().filter(|attribute| attribute.key == key);
    let attribute = found.next()?;
    assert!(found.next().is_none(), "{key} is there twice");
    attribute.value.as_ref()?.value.as_ref()
}
