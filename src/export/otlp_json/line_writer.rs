//! [`LineWriter`]: spans in lines of a limited length.

use std::io::{self, Write};

use super::{
    message::{
        ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceSpans, ScopeSpans, Span,
    },
    span_builder::BoundedSpan,
};

/// The maximum length in bytes of the spans of a line. The Collector's receiver cuts a line that is longer than 1 MiB,
/// unless it is configured otherwise.
const MAX_LINE_BYTES: usize = 512 << 10;
/// The version of the semantic conventions.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

pub(super) struct LineWriter<'a, W> {
    out: W,
    resource: &'a [KeyValue<'static>],
    spans: Vec<Span<'a>>,
    json_bytes: usize,
}

impl<'a, W: Write> LineWriter<'a, W> {
    pub(super) fn new(out: W, resource: &'a [KeyValue<'static>]) -> Self {
        LineWriter { out, resource, spans: Vec::new(), json_bytes: 0 }
    }

    pub(super) fn write(&mut self, span: BoundedSpan<'a>) -> io::Result<()> {
        if self.json_bytes + span.json_bytes > MAX_LINE_BYTES {
            self.end_line()?;
        }
        self.json_bytes += span.json_bytes;
        self.spans.push(span.span);
        Ok(())
    }

    /// Writes what is left.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.end_line()?;
        self.out.flush()
    }

    fn end_line(&mut self) -> io::Result<()> {
        if self.spans.is_empty() {
            return Ok(());
        }
        let request = ExportTraceServiceRequest {
            resource_spans: [ResourceSpans {
                resource: Resource { attributes: self.resource },
                scope_spans: [ScopeSpans {
                    scope: InstrumentationScope { name: "nettrace", version: env!("CARGO_PKG_VERSION") },
                    spans: &self.spans,
                    schema_url: SCHEMA_URL,
                }],
            }],
        };
        // A line goes out in one piece, so that one that cannot be written leaves no half of it in a pipe.
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        self.spans.clear();
        self.json_bytes = 0;
        self.out.write_all(&line)
    }
}
