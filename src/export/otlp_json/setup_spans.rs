//! The spans of connections, in the shape of .NET 9: a connection setup with its lookup, attempts and handshakes.
//!
//! A connection serves many requests, so its setup is a trace of its own, to which they link. See "Semantic Conventions
//! for network spans emitted by .NET", of OpenTelemetry.

use std::collections::HashSet;

use super::{
    contexts::Contexts,
    findings::Findings,
    ids::SpanOf,
    message::SpanKind,
    outcome::error_type,
    span_builder::{BoundedSpan, SpanBuilder, SpanContext, UnixTimes},
};
use crate::{
    graph::TraceGraph,
    record::{
        AddrTuple, DialTrace, DnsResType, EndReason, SocksTrace, TcpConnTrace, TlsTunnelTrace, TraceId,
    },
    url_authority::url_scheme,
};

/// Makes the spans of connections.
pub(super) struct SetupSpans<'g, 'a> {
    graph: &'g TraceGraph<'a>,
    contexts: &'g Contexts,
    times: UnixTimes,
    findings: &'g Findings<'a>,
    /// The connections on which requests were tried.
    http_conns: HashSet<&'a str>,
}

impl<'g, 'a> SetupSpans<'g, 'a> {
    pub(super) fn new(
        graph: &'g TraceGraph<'a>,
        contexts: &'g Contexts,
        times: UnixTimes,
        findings: &'g Findings<'a>,
    ) -> Self {
        let requests = graph.trace.http_requests.iter();
        let conns = requests.flat_map(|request| {
            let tried = request.attempts.iter().map(|attempt| attempt.tcp_conn.as_str());
            tried.chain([request.tcp_conn.as_str()])
        });
        SetupSpans { graph, contexts, times, findings, http_conns: conns.collect() }
    }

    /// Returns the spans of a dial; none while it or a handshake is running.
    pub(super) fn of_dial(&self, dial: &'a DialTrace) -> Vec<BoundedSpan<'a>> {
        self.setup(dial).unwrap_or_default()
    }

    /// Returns the span of the handshake on an accepted connection; `None` while it is running.
    pub(super) fn of_accepted(&self, tunnel: &'a TlsTunnelTrace) -> Option<BoundedSpan<'a>> {
        let ids = &self.contexts.ids;
        let trace_id = ids.trace(SpanOf::TlsHandshake, &tunnel.trace_id);
        let context = SpanContext::root(trace_id, ids.span(SpanOf::TlsHandshake, &tunnel.trace_id));
        let mut span = self.tls_handshake(tunnel, context, "TLS server handshake".to_owned())?;
        if let Some(conn) = self.graph.trace.tcp_conns.get(&tunnel.tcp_conn) {
            add_peer(&mut span, conn);
            self.findings.add_to(&mut span, &conn.trace_id, self.times);
        }
        Some(span.build())
    }

    fn setup(&self, dial: &'a DialTrace) -> Option<Vec<BoundedSpan<'a>>> {
        let times = self.times;
        let context = self.contexts.setup(dial);
        let attempts = || self.graph.tcp_of(dial).iter().copied().filter(|conn| !conn.from_resolver);
        let established = self.graph.trace.tcp_conns.get(&dial.established_conn);
        let tunnels = established.map_or(&[][..], |conn| self.graph.tunnels_of(conn));
        let connects = established.map_or(&[][..], |conn| self.graph.connects_of(conn));
        let socks = established.and_then(|conn| Some((conn, conn.socks.as_deref()?)));

        let mut end = times.at(dial.dial_end_at)?;
        let mut failed = error_type(dial.end_reason.as_ref(), dial.failure.as_ref(), &dial.dial_err)
            .map(|kind| (kind, dial.dial_err.as_str()));
        let mut children = Vec::new();
        children.extend(self.lookup(dial, context, attempts().next().is_none()));
        children.extend(attempts().filter_map(|conn| self.attempt(conn, context)));
        if let Some((conn, socks)) = socks {
            if socks.handshake_end_at.is_undefined() && socks.end_reason.is_none() {
                return None;
            }
            failed = failed.or(socks_failure(socks));
            children.extend(self.socks(conn, socks, context));
        }
        for connect in connects.iter().copied() {
            // The Go package writes no `endAt`.
            let connect_end = times.first([connect.end_at, connect.resp_recv_at]);
            if connect_end.is_none() && connect.end_reason.is_none() {
                return None;
            }
            end = end.max(connect_end.unwrap_or(end));
            let kind = error_type(connect.end_reason.as_ref(), connect.failure.as_ref(), &connect.req_error);
            failed = failed.or(kind.map(|kind| (kind, connect.req_error.as_str())));
        }
        for tunnel in tunnels.iter().copied() {
            if tunnel.handshake_end_at.is_undefined() && tunnel.end_reason.is_none() {
                return None;
            }
            failed = failed.or(handshake_failure(tunnel));
            children.extend(self.tls_client_handshake(dial, tunnel, context));
        }
        let end = children.iter().map(SpanBuilder::end).fold(end, u64::max);

        let http = if self.is_http(dial) { "HTTP " } else { "" };
        let name = format!("{http}connection_setup {}", dial.dst_address);
        let mut span =
            SpanBuilder::new(context, SpanKind::Internal, name, (times.at(dial.dial_begin_at)?, end));
        add_id(&mut span, &dial.trace_id, dial.end_reason.as_ref());
        span.text("server.address", host(dial));
        if let Some(port) = port(dial) {
            span.number("server.port", port);
        }
        if let Some(request) = self.graph.trace.http_requests.get(&dial.triggered_by).filter(|r| !r.accepted)
        {
            span.text("url.scheme", url_scheme(&request.req_url));
        }
        if let Some(conn) = established {
            add_peer(&mut span, conn);
        }
        if let Some((kind, message)) = failed {
            span.failed(kind, message);
        }
        self.findings.add_to(&mut span, &dial.trace_id, times);
        children.push(span);
        Some(children.into_iter().map(SpanBuilder::build).collect())
    }

    /// Returns the span of the lookup. It failed if the dial did, and nothing was tried.
    fn lookup(
        &self,
        dial: &'a DialTrace,
        setup: SpanContext,
        without_attempt: bool,
    ) -> Option<SpanBuilder<'a>> {
        let end = self.times.at(dial.resolve_end_at).or(self.times.at(dial.dial_end_at))?;
        let begin = self.times.at(dial.resolve_begin_at)?;
        let context = setup.child(self.contexts.ids.span(SpanOf::DnsLookup, &dial.trace_id));
        let name = format!("DNS lookup {}", host(dial));
        let mut span = SpanBuilder::new(context, SpanKind::Internal, name, (begin, end));
        span.text("dns.question.name", host(dial));
        let replies = self.graph.queries_of(dial).iter().flat_map(|query| &query.dns_reply_msgs);
        let answers = replies.filter(|reply| reply.ignored.is_empty()).flat_map(|reply| &reply.answers);
        let addresses = answers.filter(|answer| matches!(answer.r#type, DnsResType::A | DnsResType::Aaaa));
        span.texts("dns.answers", addresses.map(|answer| answer.resolved_val.as_str()));
        let failed = error_type(dial.end_reason.as_ref(), dial.failure.as_ref(), &dial.dial_err);
        if let Some(kind) = failed.filter(|_| without_attempt) {
            span.failed(kind, dial.dial_err.as_str());
        }
        Some(span)
    }

    fn attempt(&self, conn: &'a TcpConnTrace, setup: SpanContext) -> Option<SpanBuilder<'a>> {
        let AddrTuple { dst_ip, dst_port, .. } = &conn.addr_tuple;
        let begin = self.times.at(conn.handshake_begin_at)?;
        let end = self.times.at(conn.handshake_end_at)?;
        let name = match (conn.unix_path.is_empty(), dst_ip.contains(':')) {
            (false, _) => format!("socket connect {}", *conn.unix_path),
            (true, true) => format!("socket connect [{dst_ip}]:{dst_port}"),
            (true, false) => format!("socket connect {dst_ip}:{dst_port}"),
        };
        let context = setup.child(self.contexts.ids.span(SpanOf::SocketConnect, &conn.trace_id));
        let mut span = SpanBuilder::new(context, SpanKind::Internal, name, (begin, end));
        // How an established connection ended says nothing about its attempt.
        let end_reason = conn.end_reason.as_ref().filter(|_| !conn.connected);
        add_id(&mut span, &conn.trace_id, end_reason);
        add_peer(&mut span, conn);
        if conn.unix_path.is_empty() {
            span.text("network.type", if dst_ip.contains(':') { "ipv6" } else { "ipv4" });
        }
        if !conn.connected
            && let Some(kind) = error_type(end_reason, conn.failure.as_ref(), &conn.handshake_err)
        {
            span.failed(kind, conn.handshake_err.as_str());
        }
        Some(span)
    }

    fn socks(
        &self,
        conn: &'a TcpConnTrace,
        socks: &'a SocksTrace,
        setup: SpanContext,
    ) -> Option<SpanBuilder<'a>> {
        let begin = self.times.at(socks.handshake_begin_at)?;
        let end = self.times.at(socks.handshake_end_at)?;
        let context = setup.child(self.contexts.ids.span(SpanOf::SocksHandshake, &conn.trace_id));
        let name = format!("SOCKS handshake {}", socks.target);
        let mut span = SpanBuilder::new(context, SpanKind::Internal, name, (begin, end));
        if let Some((kind, message)) = socks_failure(socks) {
            span.failed(kind, message);
        }
        Some(span)
    }

    fn tls_client_handshake(
        &self,
        dial: &'a DialTrace,
        tunnel: &'a TlsTunnelTrace,
        setup: SpanContext,
    ) -> Option<SpanBuilder<'a>> {
        let context = setup.child(self.contexts.ids.span(SpanOf::TlsHandshake, &tunnel.trace_id));
        let name = if tunnel.server_name.is_empty() { host(dial) } else { &tunnel.server_name };
        self.tls_handshake(tunnel, context, format!("TLS client handshake {name}"))
    }

    fn tls_handshake(
        &self,
        tunnel: &'a TlsTunnelTrace,
        context: SpanContext,
        name: String,
    ) -> Option<SpanBuilder<'a>> {
        let begin = self.times.at(tunnel.handshake_begin_at)?;
        let end = self.times.at(tunnel.handshake_end_at)?;
        let mut span = SpanBuilder::new(context, SpanKind::Internal, name, (begin, end));
        span.text("nettrace.id", tunnel.trace_id.as_str());
        span.text("server.address", tunnel.server_name.as_str());
        if let Some(version) = tunnel.tls_version.strip_prefix("TLSv") {
            span.text("tls.protocol.name", "tls");
            span.text("tls.protocol.version", version);
        }
        span.text("tls.next_protocol", tunnel.negotiated_proto.as_str());
        span.text("tls.curve", tunnel.key_exchange_group.as_str());
        if tunnel.did_resume {
            span.flag("tls.resumed", true);
        }
        span.text("nettrace.tls.alert", tunnel.alert.as_str());
        if let Some((kind, message)) = handshake_failure(tunnel) {
            span.failed(kind, message);
        }
        Some(span)
    }

    /// Returns `true` if a client made the dial for a request, or used its connection for one. A served request may
    /// have needed a connection of any protocol.
    fn is_http(&self, dial: &DialTrace) -> bool {
        let is_used = |conn: &&TcpConnTrace| self.http_conns.contains(conn.trace_id.as_str());
        let cause = self.graph.trace.http_requests.get(&dial.triggered_by);
        cause.is_some_and(|request| !request.accepted) || self.graph.tcp_of(dial).iter().any(is_used)
    }
}

fn handshake_failure(tunnel: &TlsTunnelTrace) -> Option<(&str, &str)> {
    // What broke an established tunnel says nothing about its handshake.
    let failed = (!tunnel.handshake_err.is_empty())
        .then(|| error_type(tunnel.end_reason.as_ref(), tunnel.failure.as_ref(), &tunnel.handshake_err));
    Some((failed.flatten()?, tunnel.handshake_err.as_str()))
}

fn socks_failure(socks: &SocksTrace) -> Option<(&str, &str)> {
    let kind = error_type(socks.end_reason.as_ref(), socks.failure.as_ref(), &socks.handshake_err)?;
    Some((kind, socks.handshake_err.as_str()))
}

fn host(dial: &DialTrace) -> &str {
    let host = dial.dst_address.rsplit_once(':').map_or(&*dial.dst_address, |(host, _)| host);
    host.trim_matches(['[', ']'])
}

fn port(dial: &DialTrace) -> Option<u16> {
    dial.dst_address.rsplit_once(':')?.1.parse().ok()
}

/// Adds the identifier of a record, and how it ended unless that is nothing special.
pub(super) fn add_id<'a>(span: &mut SpanBuilder<'a>, id: &'a TraceId, end_reason: Option<&'a EndReason>) {
    span.text("nettrace.id", id.as_str());
    if let Some(reason) = end_reason.filter(|reason| **reason != EndReason::Closed) {
        span.text("nettrace.end_reason", reason.as_str());
    }
}

/// Adds the address of a connection's peer.
pub(super) fn add_peer<'a>(span: &mut SpanBuilder<'a>, conn: &'a TcpConnTrace) {
    if !conn.unix_path.is_empty() {
        span.text("network.peer.address", conn.unix_path.as_str());
        span.text("network.transport", "unix");
        return;
    }
    let AddrTuple { dst_ip, dst_port, .. } = &conn.addr_tuple;
    if !dst_ip.is_empty() {
        span.text("network.peer.address", dst_ip.as_str());
        span.number("network.peer.port", *dst_port);
    }
}
