//! [`Contexts`]: where each span belongs, and to which trace.
//!
//! | span | trace | parent |
//! |---|---|---|
//! | connection setup | its own | none |
//! | served request | that of its `traceparent`, or its own | the span that its `traceparent` names |
//! | other request | that of its `traceparent`, of the served request for which it was made, or its own | likewise |
//! | hop of a redirect without a `traceparent` | that of the first hop | that of the first hop |
//! | CONNECT to a proxy | that of the connection setup | the connection setup |
//! | DNS query over HTTPS | that of the connection setup which needed the name | its DNS lookup |

use std::collections::{HashMap, HashSet};

use super::{
    ids::{Ids, OtelSpanId, OtelTraceId, SpanOf},
    message::flags,
    span_builder::SpanContext,
    traceparent::{Traceparent, TraceparentMeaning},
};
use crate::{
    graph::TraceGraph,
    record::{DialTrace, HttpReqTrace, TraceId},
};

/// The contexts of the requests of a trace, and how those of connection setups are derived.
pub(super) struct Contexts {
    pub(super) ids: Ids,
    requests: Vec<RequestContext>,
}

/// Where a request belongs.
#[derive(Clone, Copy)]
pub(super) struct RequestContext {
    pub(super) span: SpanContext,
    /// How often the request had been sent before, as earlier hops of a redirect or on other connections.
    pub(super) resend_count: usize,
}

impl Contexts {
    pub(super) fn new(graph: &TraceGraph<'_>, meaning: TraceparentMeaning) -> Self {
        let ids = Ids::new(graph.trace);
        let mut builder =
            Builder { graph, ids: &ids, meaning, lookups: lookups_over_https(graph), used: HashSet::new() };
        let requests = builder.requests();
        Contexts { ids, requests }
    }

    /// Returns the context of the request with this index.
    pub(super) fn request(&self, at: usize) -> RequestContext {
        self.requests[at]
    }

    /// Returns the context of the span of a connection setup.
    pub(super) fn setup(&self, dial: &DialTrace) -> SpanContext {
        setup(&self.ids, dial)
    }
}

fn setup(ids: &Ids, dial: &DialTrace) -> SpanContext {
    let id = &dial.trace_id;
    SpanContext::root(ids.trace(SpanOf::ConnectionSetup, id), ids.span(SpanOf::ConnectionSetup, id))
}

/// Returns the dials whose names were looked up over HTTPS, by the identifier of the request that carried the query.
fn lookups_over_https<'a>(graph: &TraceGraph<'a>) -> HashMap<&'a str, &'a DialTrace> {
    let queries = graph.trace.dns_queries.iter().filter(|query| !query.http_req.is_undefined());
    queries
        .filter_map(|query| Some((query.http_req.as_str(), graph.trace.dials.get(&query.from_dial)?)))
        .collect()
}

struct Builder<'g, 'a> {
    graph: &'g TraceGraph<'a>,
    ids: &'g Ids,
    meaning: TraceparentMeaning,
    lookups: HashMap<&'a str, &'a DialTrace>,
    /// The spans that a `traceparent` has named and that are taken.
    used: HashSet<(OtelTraceId, OtelSpanId)>,
}

impl Builder<'_, '_> {
    fn requests(&mut self) -> Vec<RequestContext> {
        let graph = self.graph;
        let records = &graph.trace.http_requests;
        let mut contexts: Vec<Option<RequestContext>> = vec![None; records.len()];
        // Served requests first: the others may be their children.
        for (at, request) in records.iter().enumerate().filter(|(_, request)| request.accepted) {
            contexts[at] = Some(RequestContext { span: self.served(request, at), resend_count: 0 });
        }
        for chain in graph.chains() {
            let mut first = None;
            let mut sent = 0;
            for at in chain {
                let request = &records[at];
                if request.accepted || is_proxy_connect(graph, request) {
                    continue;
                }
                let served =
                    graph.served_by(at).and_then(|served| Some(contexts.get(served)?.as_ref()?.span));
                let span = match first {
                    Some(first) if Traceparent::parse(&request.traceparent).is_none() => {
                        SpanContext { span_id: self.span_id(request, at), ..first }
                    }
                    _ => self.client(request, at, served),
                };
                first = first.or(Some(span));
                sent += request.attempts.len().max(1);
                contexts[at] = Some(RequestContext { span, resend_count: sent - 1 });
            }
        }
        let rest = contexts.into_iter().enumerate().map(|(at, context)| {
            context
                .unwrap_or_else(|| RequestContext { span: self.connect(&records[at], at), resend_count: 0 })
        });
        rest.collect()
    }

    fn served(&self, request: &HttpReqTrace, at: usize) -> SpanContext {
        let span_id = self.span_id(request, at);
        match Traceparent::parse(&request.traceparent) {
            Some(field) => {
                let remote = flags::HAS_IS_REMOTE | flags::IS_REMOTE;
                SpanContext { flags: u32::from(field.flags) | remote, ..child_of(field, span_id) }
            }
            None => SpanContext::root(self.ids.trace(SpanOf::Request, &request_key(request, at)), span_id),
        }
    }

    fn client(&mut self, request: &HttpReqTrace, at: usize, served: Option<SpanContext>) -> SpanContext {
        let span_id = self.span_id(request, at);
        if let Some(dial) = self.lookups.get(request.trace_id.as_str()) {
            let lookup = self.ids.span(SpanOf::DnsLookup, &dial.trace_id);
            let setup = setup(self.ids, dial);
            // Without a lookup of its own, the dial has no such span.
            let parent = if dial.resolve_begin_at.is_undefined() { setup.span_id } else { lookup };
            return SpanContext { span_id: parent, ..setup }.child(span_id);
        }
        let Some(field) = Traceparent::parse(&request.traceparent) else {
            return match served {
                Some(served) => served.child(span_id),
                None => self.without_field(request, at),
            };
        };
        // A field that a handler passes on unchanged names the caller of the served request.
        let is_passed_on =
            |served: &SpanContext| served.trace_id == field.trace_id && served.parent == Some(field.parent);
        let is_child = |served: &SpanContext| served.span_id == field.parent;
        if let Some(served) = served.filter(|served| is_passed_on(served) || is_child(served)) {
            return served.child(span_id);
        }
        match self.meaning {
            TraceparentMeaning::Caller => child_of(field, span_id),
            TraceparentMeaning::Request => {
                let parent = served.filter(|served| served.trace_id == field.trace_id);
                let span_id =
                    if self.used.insert((field.trace_id, field.parent)) { field.parent } else { span_id };
                let flags = u32::from(field.flags) | if parent.is_some() { flags::HAS_IS_REMOTE } else { 0 };
                SpanContext { trace_id: field.trace_id, span_id, parent: parent.map(|p| p.span_id), flags }
            }
        }
    }

    /// Returns the context of a request without a `traceparent` whose served request is not in the trace, if it was
    /// made for one.
    fn without_field(&self, request: &HttpReqTrace, at: usize) -> SpanContext {
        let span_id = self.span_id(request, at);
        let cause: &TraceId = &request.triggered_by;
        if cause.is_undefined() {
            return SpanContext::root(self.ids.trace(SpanOf::Request, &request_key(request, at)), span_id);
        }
        let trace_id = self.ids.trace(SpanOf::Request, cause);
        SpanContext::root(trace_id, self.ids.span(SpanOf::Request, cause)).child(span_id)
    }

    fn connect(&self, request: &HttpReqTrace, at: usize) -> SpanContext {
        let span_id = self.span_id(request, at);
        let conn = self.graph.trace.tcp_conns.get(&request.tcp_conn);
        match conn.and_then(|conn| self.graph.trace.dials.get(&conn.from_dial)) {
            Some(dial) => setup(self.ids, dial).child(span_id),
            None => self.without_field(request, at),
        }
    }

    fn span_id(&self, request: &HttpReqTrace, at: usize) -> OtelSpanId {
        self.ids.span(SpanOf::Request, &request_key(request, at))
    }
}

fn child_of(field: Traceparent, span_id: OtelSpanId) -> SpanContext {
    let flags = u32::from(field.flags) | flags::HAS_IS_REMOTE;
    SpanContext { trace_id: field.trace_id, span_id, parent: Some(field.parent), flags }
}

/// Returns `true` if the request is a CONNECT that prepared a connection for another one, which may not be in the
/// trace.
pub(super) fn is_proxy_connect(graph: &TraceGraph<'_>, request: &HttpReqTrace) -> bool {
    let is_for_other = !request.network_proxy.is_empty() && !request.triggered_by.is_undefined();
    graph.is_connect(request) || request.req_method == "CONNECT" && !request.accepted && is_for_other
}

/// Returns what identifies a request: its identifier, or its place in the trace if it has none.
pub(super) fn request_key(request: &HttpReqTrace, at: usize) -> TraceId {
    if request.trace_id.is_undefined() { format!("#{at}").into() } else { request.trace_id.clone() }
}
