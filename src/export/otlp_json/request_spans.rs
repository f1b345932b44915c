//! The spans of HTTP requests, after the stable semantic conventions of OpenTelemetry.
//!
//! See "Semantic conventions for HTTP spans" of OpenTelemetry, version 1.44.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
};

use super::{
    contexts::{Contexts, is_proxy_connect, request_key},
    findings::Findings,
    ids::SpanOf,
    message::SpanKind,
    outcome::error_type,
    setup_spans::{add_id, add_peer},
    span_builder::{BoundedSpan, SpanBuilder, UnixTimes},
};
use crate::{
    graph::TraceGraph,
    record::{HttpHeaders, HttpReqTrace, grpc_status_name},
    url_authority::{url_host_and_port, url_path_and_query, url_scheme},
};

/// The methods that the conventions call known.
const KNOWN_METHODS: [&str; 10] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"];

/// Makes the spans of requests.
pub(super) struct RequestSpans<'g, 'a> {
    pub(super) graph: &'g TraceGraph<'a>,
    pub(super) contexts: &'g Contexts,
    pub(super) times: UnixTimes,
    pub(super) findings: &'g Findings<'a>,
}

impl<'a> RequestSpans<'_, 'a> {
    /// Returns the span of the request with this index, and that of its wait for a connection if it had to wait.
    /// Returns none while the request is running.
    pub(super) fn of(&self, at: usize) -> Vec<BoundedSpan<'a>> {
        let request = &self.graph.trace.http_requests[at];
        let begin = self.times.at(request.req_sent_at);
        let Some((begin, end)) = begin.zip(self.end(request)) else { return Vec::new() };
        let wait = self.wait(request, at, (begin, end)).map(SpanBuilder::build);
        [self.request(request, at, (begin, end)).build()].into_iter().chain(wait).collect()
    }

    /// Returns when a request ended; `None` if it is running.
    fn end(&self, request: &HttpReqTrace) -> Option<u64> {
        if let Some(end) = self.times.at(request.end_at) {
            return Some(end);
        }
        // The Go package writes neither how nor when a request ended.
        let is_over_in_go = request.conn_acquired_at.is_undefined()
            && self.graph.times.coarse
            && !(request.resp_recv_at.is_undefined() && request.req_error.is_empty());
        let is_over = request.end_reason.is_some() || is_over_in_go;
        let last = [request.resp_body_end_at, request.resp_recv_at, request.req_sent_at];
        self.times.first(last).filter(|_| is_over)
    }

    fn request(&self, request: &'a HttpReqTrace, at: usize, (begin, end): (u64, u64)) -> SpanBuilder<'a> {
        let context = self.contexts.request(at);
        let kind = if request.accepted { SpanKind::Server } else { SpanKind::Client };
        let method = request.req_method.as_str();
        let is_known = KNOWN_METHODS.contains(&method);
        let name = if is_known { method } else { "HTTP" };
        let mut span = SpanBuilder::new(context.span, kind, name, (begin, end));
        add_id(&mut span, &request.trace_id, request.end_reason.as_ref());
        span.text("http.request.method", if is_known { method } else { "_OTHER" });
        if !is_known {
            span.text("http.request.method_original", method);
        }
        self.add_target(&mut span, request);
        if let Some(version) = request.protocol_version() {
            span.text("network.protocol.name", "http");
            span.text("network.protocol.version", version);
        }
        if request.resp_status_code != 0 {
            span.number("http.response.status_code", request.resp_status_code);
        }
        if context.resend_count > 0 {
            span.number("http.request.resend_count", context.resend_count);
        }
        add_body_sizes(&mut span, request);
        if let Some(status) = request.grpc_status {
            span.text("rpc.system.name", "grpc");
            span.text("rpc.response.status_code", grpc_status(status));
        }
        if let Some((kind, message)) = failure(request) {
            span.failed(kind, message);
        }
        add_headers(&mut span, "http.request.header", &request.req_header);
        add_headers(&mut span, "http.response.header", &request.resp_header);
        for (key, value) in &*request.tags {
            span.text(format!("nettrace.tag.{key}"), value.as_str());
        }
        self.findings.add_to(&mut span, &request.trace_id, self.times);
        self.add_links(&mut span, request, at);
        span
    }

    fn add_target(&self, span: &mut SpanBuilder<'a>, request: &'a HttpReqTrace) {
        let url = request.req_url.as_str();
        let is_connect = request.req_method == "CONNECT";
        if request.accepted {
            let is_secure = !request.tls_tunnel.is_undefined();
            let scheme = match url_scheme(url) {
                "" if is_secure => "https",
                "" => "http",
                scheme => scheme,
            };
            span.text("url.scheme", scheme);
            if !is_connect {
                let (path, query) = url_path_and_query(url);
                span.text("url.path", path);
                span.text("url.query", query);
            }
        } else if !is_connect {
            span.text("url.full", url);
        }
        let (host, port) = url_host_and_port(url);
        span.text("server.address", host.unwrap_or_default().trim_matches(['[', ']']));
        if let Some(port) = port {
            span.number("server.port", port);
        }
        if let Some(conn) = self.graph.trace.tcp_conns.get(&request.tcp_conn) {
            add_peer(span, conn);
            if request.accepted {
                span.text("client.address", conn.addr_tuple.dst_ip.as_str());
            }
        }
        let user_agent = request.req_header.get("user-agent").filter(|_| request.accepted);
        if let Some(user_agent) = user_agent {
            span.text("user_agent.original", user_agent.field_val.as_str());
        }
    }

    /// Links a request to the setups of the connections on which it was tried, and of those that failed for it.
    fn add_links(&self, span: &mut SpanBuilder<'a>, request: &'a HttpReqTrace, at: usize) {
        let trace = self.graph.trace;
        // A CONNECT is a child of the setup, and accepted connections have none.
        if request.accepted || is_proxy_connect(self.graph, request) {
            return;
        }
        let tried = request.attempts.iter().map(|attempt| &attempt.tcp_conn).chain([&request.tcp_conn]);
        let dials = tried.filter_map(|conn| trace.dials.get(&trace.tcp_conns.get(conn)?.from_dial));
        let own = self.graph.own_sources(at).iter().filter_map(|source| source.dial());
        let failed = own.filter(|dial| {
            error_type(dial.end_reason.as_ref(), dial.failure.as_ref(), &dial.dial_err).is_some()
        });
        let mut linked = HashSet::new();
        for dial in dials.chain(failed).filter(|dial| linked.insert(dial.trace_id.as_str())) {
            span.link(self.contexts.setup(dial));
        }
    }

    /// Returns the span of the time in which a request waited because no connection was ready.
    fn wait(
        &self,
        request: &'a HttpReqTrace,
        at: usize,
        (begin, end): (u64, u64),
    ) -> Option<SpanBuilder<'a>> {
        let has_waited = match &request.pool {
            Some(pool) => pool.not_reused.is_some() || pool.waited_for.is_some(),
            None => !self.graph.own_sources(at).is_empty(),
        };
        if request.accepted || is_proxy_connect(self.graph, request) || !has_waited {
            return None;
        }
        let acquired = self.times.at(request.conn_acquired_at);
        let is_answered = request.resp_status_code != 0;
        let until = acquired.or(Some(end).filter(|_| !is_answered))?;
        let (host, port) = url_host_and_port(&request.req_url);
        let host = host.unwrap_or_default().trim_matches(['[', ']']);
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let name = format!("HTTP wait_for_connection {host}{port}");
        let span_id = self.contexts.ids.span(SpanOf::WaitForConnection, &request_key(request, at));
        let context = self.contexts.request(at).span.child(span_id);
        let mut span = SpanBuilder::new(context, SpanKind::Internal, name, (begin, until));
        span.text("nettrace.id", request.trace_id.as_str());
        if let Some((kind, message)) = failure(request).filter(|_| acquired.is_none()) {
            span.failed(kind, message);
        }
        Some(span)
    }
}

/// Returns the `error.type` of a request that failed, and the text of its error: what the conventions call an error,
/// and whatever its caller got as one.
fn failure(request: &HttpReqTrace) -> Option<(Cow<'_, str>, &str)> {
    let status = request.resp_status_code;
    let error = request.req_error.as_str();
    let failed = error_type(request.end_reason.as_ref(), request.failure.as_ref(), error);
    // A request that was given up after its response had come was answered.
    let is_given_up = request.end_reason.as_ref().is_none_or(|reason| !reason.is_failure());
    if let Some(kind) = failed.filter(|_| status == 0 || !is_given_up) {
        return Some((kind.into(), error));
    }
    let first = if request.accepted { 500 } else { 400 };
    if status >= first {
        return Some((status.to_string().into(), ""));
    }
    let failed_with = request.grpc_status.filter(|status| match request.accepted {
        // Those that the conventions for gRPC call errors of a server.
        true => matches!(status, 2 | 4 | 12 | 13 | 14 | 15),
        false => *status != 0,
    });
    Some((grpc_status(failed_with?), &request.grpc_message))
}

fn add_body_sizes<'a>(span: &mut SpanBuilder<'a>, request: &'a HttpReqTrace) {
    if request.req_content_len != 0 {
        span.number("http.request.body.size", request.req_content_len);
    }
    if request.resp_status_code != 0 && !request.is_response_body_unobserved() {
        let size = request.resp_encoded_len.unwrap_or(request.resp_content_len);
        span.number("http.response.body.size", size);
    }
}

/// Adds the fields of a header section whose values were recorded.
fn add_headers<'a>(span: &mut SpanBuilder<'a>, prefix: &str, fields: &'a HttpHeaders) {
    let mut values: BTreeMap<String, Vec<&'a str>> = BTreeMap::new();
    for field in fields.iter().filter(|field| !field.field_val.is_empty()) {
        values.entry(field.field_name.to_ascii_lowercase()).or_default().push(&field.field_val);
    }
    for (name, values) in values {
        span.texts(format!("{prefix}.{name}"), values);
    }
}

/// Returns the name of a status code of gRPC, or its number if it has none.
fn grpc_status(code: u16) -> Cow<'static, str> {
    grpc_status_name(code).map_or_else(|| code.to_string().into(), Cow::Borrowed)
}
