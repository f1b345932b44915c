//! The messages of OTLP, as far as spans need them, in the JSON encoding.
//!
//! They are those of `opentelemetry/proto/trace/v1/trace.proto`. The JSON encoding of OTLP is that of Protobuf with
//! names in camel case, identifiers as hexadecimal digits, and enums as numbers; integers of 64 bits are decimal
//! strings. Fields with their default value are left out.

use std::{borrow::Cow, fmt};

use serde::{Serialize, Serializer};

use super::ids::{OtelSpanId, OtelTraceId};

/// The message of a line: spans of one resource and one scope.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExportTraceServiceRequest<'a> {
    pub(super) resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResourceSpans<'a> {
    pub(super) resource: Resource<'a>,
    pub(super) scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
pub(super) struct Resource<'a> {
    pub(super) attributes: &'a [KeyValue<'static>],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ScopeSpans<'a> {
    pub(super) scope: InstrumentationScope,
    pub(super) spans: &'a [Span<'a>],
    pub(super) schema_url: &'static str,
}

#[derive(Serialize)]
pub(super) struct InstrumentationScope {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Span<'a> {
    pub(super) trace_id: OtelTraceId,
    pub(super) span_id: OtelSpanId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parent_span_id: Option<OtelSpanId>,
    pub(super) flags: u32,
    pub(super) name: Cow<'a, str>,
    #[serde(serialize_with = "number")]
    pub(super) kind: SpanKind,
    #[serde(serialize_with = "decimal")]
    pub(super) start_time_unix_nano: u64,
    #[serde(serialize_with = "decimal")]
    pub(super) end_time_unix_nano: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) attributes: Vec<KeyValue<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) dropped_attributes_count: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) events: Vec<Event<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) dropped_events_count: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) links: Vec<Link>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) dropped_links_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<Status<'a>>,
}

/// The flags of a span or link: the lowest byte has those of W3C Trace Context.
pub(super) mod flags {
    pub(in super::super) const SAMPLED: u32 = 1;
    /// `IS_REMOTE` says whether the parent is in another process.
    pub(in super::super) const HAS_IS_REMOTE: u32 = 0x100;
    pub(in super::super) const IS_REMOTE: u32 = 0x200;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpanKind {
    Internal = 1,
    Server = 2,
    Client = 3,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event<'a> {
    #[serde(serialize_with = "decimal")]
    pub(super) time_unix_nano: u64,
    pub(super) name: &'static str,
    pub(super) attributes: Vec<KeyValue<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Link {
    pub(super) trace_id: OtelTraceId,
    pub(super) span_id: OtelSpanId,
    pub(super) flags: u32,
}

/// The status of a span that failed. One that did not has none.
#[derive(Debug, Serialize)]
pub(super) struct Status<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) message: Cow<'a, str>,
    pub(super) code: u8,
}

pub(super) const STATUS_CODE_ERROR: u8 = 2;

#[derive(Clone, Debug, Serialize)]
pub(super) struct KeyValue<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) value: AnyValue<'a>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) enum AnyValue<'a> {
    #[serde(rename = "stringValue")]
    Text(Cow<'a, str>),
    #[serde(rename = "boolValue")]
    Flag(bool),
    #[serde(rename = "intValue", serialize_with = "decimal")]
    Number(i64),
    #[serde(rename = "arrayValue")]
    List { values: Vec<AnyValue<'a>> },
}

fn decimal<S: Serializer>(number: impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&number)
}

fn number<S: Serializer>(kind: &SpanKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(*kind as u8)
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}
