//! Spans in the JSON encoding of the OpenTelemetry protocol (OTLP), without a crate of OpenTelemetry.
//!
//! [`OtlpJson`] writes a trace as lines. Each is an `ExportTraceServiceRequest`, as the specification of OTLP's file
//! exporter has it, and is read by the receiver `otlpjsonfile` of the OpenTelemetry Collector, or is the body of a POST
//! to `/v1/traces`.
//!
//! ```
//! use nettrace::export::otlp_json::OtlpJson;
//!
//! # let trace = nettrace::NetTrace::default();
//! let export = OtlpJson::new().service_name("shop").resource("deployment.environment.name", "production");
//! export.write(&trace, std::io::stdout().lock())?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Spans
//!
//! ```text
//! GET                                       server span: a request that the program answers
//! ├─ GET                                    client span: a request that is made for it; each hop of a redirect has one
//! │  ├─ HTTP wait_for_connection shop.test:443      only if no connection was ready
//! │  └ link ┐
//! └─ POST   │
//!           ▼
//! HTTP connection_setup shop.test:443       a trace of its own, since the connection serves other requests, too
//! ├─ DNS lookup shop.test
//! ├─ socket connect 192.0.2.1:443           failed: connection_refused
//! ├─ socket connect 192.0.2.2:443
//! ├─ CONNECT, or SOCKS handshake shop.test:443      through a proxy
//! └─ TLS client handshake shop.test
//! ```
//!
//! Requests have the attributes of the stable semantic conventions for HTTP, connections have the shape of .NET 9. A
//! request has links to the setups of the connections on which it was tried, and to those that failed for it. Every
//! span has the identifier of its record (`nettrace.id`). What has not ended has no span yet.
//!
//! # Identifiers
//!
//! The identifiers of spans are derived from those of records, the session of the sink
//! ([`TraceSinkBuilder::session`](crate::TraceSinkBuilder::session)) and the time at which it began. A trace that is
//! written twice has the same ones, and those of two processes differ. A request with the header field `traceparent`
//! belongs to the distributed trace that it names, see [`TraceparentMeaning`].

mod contexts;
mod findings;
mod ids;
mod line_writer;
mod message;
mod outcome;
mod request_spans;
mod setup_spans;
mod span_builder;
mod traceparent;

use std::io::{self, ErrorKind, Write};

use self::{
    contexts::Contexts,
    findings::Findings,
    line_writer::LineWriter,
    message::{AnyValue, KeyValue},
    request_spans::RequestSpans,
    setup_spans::SetupSpans,
    span_builder::UnixTimes,
};
use crate::{
    explain,
    graph::TraceGraph,
    record::{DialTrace, NetTrace, TlsTunnelTrace},
};

pub use self::traceparent::TraceparentMeaning;

/// Writes traces as OTLP JSON lines.
#[derive(Clone, Debug)]
#[must_use]
pub struct OtlpJson {
    resource: Vec<KeyValue<'static>>,
    findings: bool,
    traceparent: TraceparentMeaning,
}

impl OtlpJson {
    /// Creates an export of everything, with findings.
    pub fn new() -> Self {
        OtlpJson { resource: Vec::new(), findings: true, traceparent: TraceparentMeaning::default() }
            .service_name("unknown_service")
    }

    /// Sets the name of the program's service (`service.name`). The default is `unknown_service`.
    pub fn service_name(self, name: impl Into<String>) -> Self {
        self.resource("service.name", name)
    }

    /// Sets an attribute of the resource, which is what produced the spans: `service.version`, `host.name` and others
    /// of the semantic conventions. Every line has all of them.
    pub fn resource(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        let (key, value) = (key.into(), AnyValue::Text(value.into().into()));
        self.resource.retain(|attribute| attribute.key != key);
        self.resource.push(KeyValue { key: key.into(), value });
        self
    }

    /// Sets whether what [`explain`](explain::explain) finds becomes events of spans, named `nettrace.finding`. By
    /// default it does.
    pub fn findings(self, findings: bool) -> Self {
        OtlpJson { findings, ..self }
    }

    /// Sets what is meant by the `traceparent` of requests that the program makes. The default is
    /// [`TraceparentMeaning::Caller`].
    pub fn traceparent(self, meaning: TraceparentMeaning) -> Self {
        OtlpJson { traceparent: meaning, ..self }
    }

    /// Writes everything of a trace that has ended. The work is linear in the number of records.
    ///
    /// A line has at most 512 KiB and the attributes of the resource. It is handed over whole, in one call of
    /// `write_all`, so that `out` needs no buffer. Nothing is written for a trace without records.
    ///
    /// # Errors
    ///
    /// Returns the error of `out`, or [`ErrorKind::InvalidData`] if the trace has no absolute begin, without which its
    /// times are not known.
    pub fn write(&self, trace: &NetTrace, out: impl Write) -> io::Result<()> {
        self.write_part(trace, out, Part::All)
    }

    /// Writes a request, and the connection setups that it caused.
    ///
    /// The rest of the trace is only what they belong to. So each span is written once if this is called for every
    /// [`Slice`](crate::Slice) that [`TraceSinkBuilder::on_slice`](crate::TraceSinkBuilder::on_slice) hands out: slices
    /// share hops and connections. Handshakes of accepted connections are caused by no request and are not written.
    /// Nothing is written for a request that is not in the trace.
    ///
    /// # Errors
    ///
    /// The same as those of [`write`](Self::write).
    pub fn write_request(
        &self,
        trace: &NetTrace,
        request: impl AsRef<str>,
        out: impl Write,
    ) -> io::Result<()> {
        self.write_part(trace, out, Part::Request(request.as_ref()))
    }

    fn write_part(&self, trace: &NetTrace, out: impl Write, part: Part<'_>) -> io::Result<()> {
        if trace.http_requests.is_empty() && trace.dials.is_empty() && trace.tls_tunnels.is_empty() {
            return Ok(());
        }
        let explanation =
            if self.findings { explain::explain(trace) } else { explain::Explanation::default() };
        let findings = Findings::new(&explanation);
        let graph = TraceGraph::new(trace);
        let times = UnixTimes::new(graph.times, trace.trace_begin_at).ok_or_else(no_begin)?;
        let contexts = Contexts::new(&graph, self.traceparent);
        let requests = RequestSpans { graph: &graph, contexts: &contexts, times, findings: &findings };
        let setups = SetupSpans::new(&graph, &contexts, times, &findings);
        let mut lines = LineWriter::new(out, &self.resource);
        for dial in trace.dials.iter().filter(|dial| part.has_dial(dial)) {
            setups.of_dial(dial).into_iter().try_for_each(|span| lines.write(span))?;
        }
        for tunnel in trace.tls_tunnels.iter().filter(|tunnel| part.has_accepted(tunnel)) {
            setups.of_accepted(tunnel).into_iter().try_for_each(|span| lines.write(span))?;
        }
        for at in part.requests(trace) {
            requests.of(at).into_iter().try_for_each(|span| lines.write(span))?;
        }
        lines.finish()
    }
}

impl Default for OtlpJson {
    fn default() -> Self {
        OtlpJson::new()
    }
}

/// The part of a trace that is written.
#[derive(Clone, Copy)]
enum Part<'a> {
    All,
    /// The request with this identifier, and what it caused.
    Request(&'a str),
}

impl Part<'_> {
    fn requests(self, trace: &NetTrace) -> std::ops::Range<usize> {
        match self {
            Part::All => 0..trace.http_requests.len(),
            Part::Request(id) => trace.http_requests.position(id).map_or(0..0, |at| at..at + 1),
        }
    }

    fn has_dial(self, dial: &DialTrace) -> bool {
        match self {
            Part::All => true,
            Part::Request(id) => !id.is_empty() && dial.triggered_by == id,
        }
    }

    fn has_accepted(self, tunnel: &TlsTunnelTrace) -> bool {
        match self {
            Part::All => tunnel.accepted,
            Part::Request(_) => false,
        }
    }
}

fn no_begin() -> io::Error {
    let text = "the trace has no absolute begin (`traceBeginAt`) between 1970 and 2554, so that the times of its \
                spans are not known";
    io::Error::new(ErrorKind::InvalidData, text)
}
