//! [`SpanBuilder`]: a span within limits.
//!
//! A reader of lines has a limit for each, and what is in a span comes from records that may have been read from any
//! file. So each text, each list and the whole span are bounded, and the span says how much was left out.

use std::borrow::Cow;

use super::{
    ids::{OtelSpanId, OtelTraceId},
    message::{AnyValue, Event, KeyValue, Link, STATUS_CODE_ERROR, Span, SpanKind, Status, flags},
};
use crate::{
    graph::TimeAxis,
    record::{
        Timestamp,
        limits::{MAX_ERROR_BYTES, truncate},
    },
};

/// The maximum length of a text in bytes. A URL of a record has at most 8 KiB.
const MAX_TEXT_BYTES: usize = 10 << 10;
/// The maximum number of entries of a list: of attributes, events and links, and of the texts of an attribute.
const MAX_ENTRIES: usize = 128;
/// The maximum length in bytes of the attributes, events and links of a span, as JSON.
const MAX_SPAN_BYTES: usize = 256 << 10;
/// The length in bytes of JSON around a value, rounded up: names of fields, numbers, identifiers and quotes.
const ENTRY_OVERHEAD_BYTES: usize = 96;
const SPAN_OVERHEAD_BYTES: usize = 512;

/// Where a span belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpanContext {
    pub(super) trace_id: OtelTraceId,
    pub(super) span_id: OtelSpanId,
    pub(super) parent: Option<OtelSpanId>,
    pub(super) flags: u32,
}

impl SpanContext {
    /// Returns the context of the first span of a trace.
    pub(super) fn root(trace_id: OtelTraceId, span_id: OtelSpanId) -> Self {
        SpanContext { trace_id, span_id, parent: None, flags: flags::SAMPLED }
    }

    /// Returns the context of a child in the same process.
    pub(super) fn child(&self, span_id: OtelSpanId) -> Self {
        let flags = self.flags & 0xff | flags::HAS_IS_REMOTE;
        SpanContext { trace_id: self.trace_id, span_id, parent: Some(self.span_id), flags }
    }
}

/// The begin of a trace, which makes times absolute.
#[derive(Clone, Copy)]
pub(super) struct UnixTimes {
    axis: TimeAxis,
    begin: u64,
}

impl UnixTimes {
    /// Returns `None` if the begin cannot be expressed: it is undefined, or not between 1970 and 2554.
    pub(super) fn new(axis: TimeAxis, begin: Timestamp) -> Option<Self> {
        Some(UnixTimes { axis, begin: begin.unix_nanos()?.try_into().ok()? })
    }

    /// Returns the nanoseconds since 1970; `None` for an undefined time.
    pub(super) fn at(&self, time: Timestamp) -> Option<u64> {
        Some(self.begin.saturating_add_signed(self.axis.at(time)?))
    }

    /// Returns the first of these times that is defined.
    pub(super) fn first(&self, times: impl IntoIterator<Item = Timestamp>) -> Option<u64> {
        times.into_iter().find_map(|time| self.at(time))
    }
}

/// A span and the maximum length of its JSON in bytes.
#[derive(Debug)]
pub(super) struct BoundedSpan<'a> {
    pub(super) span: Span<'a>,
    pub(super) json_bytes: usize,
}

pub(super) struct SpanBuilder<'a> {
    span: Span<'a>,
    json_bytes: usize,
}

impl<'a> SpanBuilder<'a> {
    pub(super) fn new(
        context: SpanContext,
        kind: SpanKind,
        name: impl Into<Cow<'a, str>>,
        (start, end): (u64, u64),
    ) -> Self {
        let name = bounded(name.into(), MAX_ERROR_BYTES);
        SpanBuilder {
            json_bytes: SPAN_OVERHEAD_BYTES + escaped_len(&name),
            span: Span {
                trace_id: context.trace_id,
                span_id: context.span_id,
                parent_span_id: context.parent,
                flags: context.flags,
                name,
                kind,
                start_time_unix_nano: start,
                end_time_unix_nano: end.max(start),
                attributes: Vec::new(),
                dropped_attributes_count: 0,
                events: Vec::new(),
                dropped_events_count: 0,
                links: Vec::new(),
                dropped_links_count: 0,
                status: None,
            },
        }
    }

    /// Returns when the span ends, in nanoseconds since 1970.
    pub(super) fn end(&self) -> u64 {
        self.span.end_time_unix_nano
    }

    pub(super) fn build(self) -> BoundedSpan<'a> {
        BoundedSpan { span: self.span, json_bytes: self.json_bytes }
    }

    /// Adds a text, unless it is empty.
    pub(super) fn text(&mut self, key: impl Into<Cow<'a, str>>, text: impl Into<Cow<'a, str>>) {
        let text = text.into();
        if !text.is_empty() {
            self.attribute(key.into(), AnyValue::Text(bounded(text, MAX_TEXT_BYTES)));
        }
    }

    /// Adds a list of texts, unless it is empty.
    pub(super) fn texts(
        &mut self,
        key: impl Into<Cow<'a, str>>,
        texts: impl IntoIterator<Item = impl Into<Cow<'a, str>>>,
    ) {
        let texts = texts.into_iter().take(MAX_ENTRIES);
        let values: Vec<_> = texts.map(|text| AnyValue::Text(bounded(text.into(), MAX_TEXT_BYTES))).collect();
        if !values.is_empty() {
            self.attribute(key.into(), AnyValue::List { values });
        }
    }

    pub(super) fn number(&mut self, key: &'static str, number: impl TryInto<i64>) {
        // A number beyond `i64` becomes the largest.
        self.attribute(key.into(), AnyValue::Number(number.try_into().unwrap_or(i64::MAX)));
    }

    pub(super) fn flag(&mut self, key: &'static str, flag: bool) {
        self.attribute(key.into(), AnyValue::Flag(flag));
    }

    fn attribute(&mut self, key: Cow<'a, str>, value: AnyValue<'a>) {
        let attribute = KeyValue { key: bounded(key, MAX_ERROR_BYTES), value };
        if self.has_room(self.span.attributes.len(), attribute.json_bytes()) {
            self.span.attributes.push(attribute);
        } else {
            self.span.dropped_attributes_count += 1;
        }
    }

    pub(super) fn event(
        &mut self,
        time: u64,
        name: &'static str,
        texts: impl IntoIterator<Item = (&'static str, &'a str)>,
    ) {
        let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
        let attributes: Vec<_> = texts
            .map(|(key, text)| KeyValue {
                key: key.into(),
                value: AnyValue::Text(bounded(text.into(), MAX_TEXT_BYTES)),
            })
            .collect();
        let json_bytes = ENTRY_OVERHEAD_BYTES + attributes.iter().map(KeyValue::json_bytes).sum::<usize>();
        if self.has_room(self.span.events.len(), json_bytes) {
            self.span.events.push(Event { time_unix_nano: time, name, attributes });
        } else {
            self.span.dropped_events_count += 1;
        }
    }

    pub(super) fn link(&mut self, to: SpanContext) {
        if self.has_room(self.span.links.len(), ENTRY_OVERHEAD_BYTES) {
            let flags = to.flags & 0xff | flags::HAS_IS_REMOTE;
            self.span.links.push(Link { trace_id: to.trace_id, span_id: to.span_id, flags });
        } else {
            self.span.dropped_links_count += 1;
        }
    }

    /// Marks the span as failed. `kind` becomes `error.type`.
    pub(super) fn failed(&mut self, kind: impl Into<Cow<'a, str>>, message: impl Into<Cow<'a, str>>) {
        self.text("error.type", kind);
        let message = bounded(message.into(), 2 * MAX_ERROR_BYTES);
        self.json_bytes += escaped_len(&message);
        self.span.status = Some(Status { message, code: STATUS_CODE_ERROR });
    }

    /// Makes room for another entry of a list. Returns `false` if there is none.
    fn has_room(&mut self, entries: usize, json_bytes: usize) -> bool {
        let fits = entries < MAX_ENTRIES && self.json_bytes + json_bytes <= MAX_SPAN_BYTES;
        if fits {
            self.json_bytes += json_bytes;
        }
        fits
    }
}

impl KeyValue<'_> {
    /// Returns the maximum length in bytes of the JSON.
    fn json_bytes(&self) -> usize {
        ENTRY_OVERHEAD_BYTES + escaped_len(&self.key) + value_bytes(&self.value)
    }
}

fn value_bytes(value: &AnyValue<'_>) -> usize {
    match value {
        AnyValue::Text(text) => escaped_len(text),
        AnyValue::Flag(_) | AnyValue::Number(_) => 0,
        AnyValue::List { values } => {
            values.iter().map(|value| ENTRY_OVERHEAD_BYTES + value_bytes(value)).sum()
        }
    }
}

/// Returns the maximum length in bytes of a text in JSON: a control character is written as `\u001b`.
fn escaped_len(text: &str) -> usize {
    let escapes = |byte| match byte {
        b'"' | b'\\' => 1,
        0..=0x1f => 5,
        _ => 0,
    };
    text.len() + text.bytes().map(escapes).sum::<usize>()
}

fn bounded(text: Cow<'_, str>, max_bytes: usize) -> Cow<'_, str> {
    match truncate(&text, max_bytes) {
        Some(cut) => Cow::Owned(cut),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span<'a>() -> SpanBuilder<'a> {
        let context = SpanContext::root(OtelTraceId([1; 16]), OtelSpanId([2; 8]));
        SpanBuilder::new(context, SpanKind::Internal, "name", (5, 4))
    }

    fn json(span: SpanBuilder<'_>) -> (serde_json::Value, usize) {
        let BoundedSpan { span, json_bytes } = span.build();
        let json = serde_json::to_string(&span).unwrap();
        assert!(json.len() <= json_bytes, "{} > {json_bytes}", json.len());
        (serde_json::from_str(&json).unwrap(), json.len())
    }

    #[test]
    fn a_span_has_a_limit_and_says_what_was_left_out() {
        let long = "\u{1b}".repeat(MAX_TEXT_BYTES + 1);
        let mut full = span();
        full.text("text", long.as_str());
        full.texts("texts", [long.as_str(); 2 * MAX_ENTRIES]);
        for _ in 0..20 {
            full.text("text", long.as_str());
            full.event(1, "event", [("text", long.as_str())]);
        }
        full.failed("", long.as_str());
        let (json, len) = json(full);
        assert!(len <= MAX_SPAN_BYTES + 32 * MAX_ERROR_BYTES, "{len}");
        let count = |list: &str| json[list].as_array().map_or(0, Vec::len) as u64;
        assert_eq!(json["droppedAttributesCount"].as_u64(), Some(22 - count("attributes")), "{json}");
        assert_eq!(json["droppedEventsCount"].as_u64(), Some(20 - count("events")), "{json}");
        assert!(count("attributes") + count("events") < 10, "{json}");
        assert!(json["attributes"][0]["value"]["stringValue"].as_str().unwrap().ends_with('…'));
    }

    #[test]
    fn lists_have_a_limit() {
        let mut full = span();
        let to = SpanContext::root(OtelTraceId([3; 16]), OtelSpanId([4; 8]));
        for number in 0..MAX_ENTRIES + 2 {
            full.number("number", number as u64);
            full.link(to);
        }
        let (json, _) = json(full);
        assert_eq!((&json["droppedAttributesCount"], &json["droppedLinksCount"]), (&2.into(), &2.into()));
        assert_eq!(json["links"].as_array().unwrap().len(), MAX_ENTRIES);
    }

    #[test]
    fn a_span_does_not_end_before_it_begins() {
        let (json, _) = json(span());
        assert_eq!((&json["startTimeUnixNano"], &json["endTimeUnixNano"]), (&"5".into(), &"5".into()));
    }
}
