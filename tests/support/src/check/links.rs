//! Identifiers are unique, references resolve, and references between two records agree.

use std::collections::HashSet;

use nettrace::record::{
    DialTrace, DnsQueryTrace, EndReason, HttpReqTrace, NetTrace, Record, TcpConnTrace, TlsTunnelTrace,
    TraceId, UdpConnTrace,
};

use super::{Named, Problems, name};

pub(super) fn find_problems(trace: &NetTrace, problems: &mut Problems) {
    let mut ids = UniqueIds { seen: HashSet::new(), problems };
    ids.add(&trace.dials);
    ids.add(&trace.tcp_conns);
    ids.add(&trace.udp_conns);
    ids.add(&trace.dns_queries);
    ids.add(&trace.tls_tunnels);
    ids.add(&trace.http_requests);

    let mut links = Links { trace, problems };
    trace.dials.iter().for_each(|dial| links.dial(dial));
    trace.tcp_conns.iter().for_each(|conn| links.tcp_conn(conn));
    trace.udp_conns.iter().for_each(|conn| links.udp_conn(conn));
    trace.dns_queries.iter().for_each(|query| links.dns_query(query));
    trace.tls_tunnels.iter().for_each(|tunnel| links.tls_tunnel(tunnel));
    trace.http_requests.iter().for_each(|request| links.http_request(request));
}

struct UniqueIds<'a> {
    seen: HashSet<&'a str>,
    problems: &'a mut Problems,
}

impl<'a> UniqueIds<'a> {
    fn add<R: Named>(&mut self, records: &'a [R]) {
        for record in records {
            let id = record.trace_id().as_str();
            self.problems.expect(!id.is_empty(), name(record), "has no identifier");
            self.problems.expect(self.seen.insert(id), name(record), "has the identifier of another record");
        }
    }
}

struct Links<'a> {
    trace: &'a NetTrace,
    problems: &'a mut Problems,
}

impl Links<'_> {
    fn dial(&mut self, dial: &DialTrace) {
        let (trace, who) = (self.trace, name(dial));
        self.resolves(&who, "triggeredBy", &dial.triggered_by, &trace.http_requests);
        self.resolves(&who, "establishedConn", &dial.established_conn, &trace.tcp_conns);
        if let Some(conn) = trace.tcp_conns.get(&dial.established_conn) {
            let is_own = conn.from_dial == dial.trace_id && conn.connected && !conn.from_resolver;
            self.problems.expect(is_own, &who, format!("did not establish its connection {}", conn.trace_id));
        }
        for resolver_dial in &dial.resolver_dials {
            let id = &resolver_dial.established_conn;
            let udp = trace.udp_conns.get(id).map(|conn| (conn.from_resolver, &conn.from_dial));
            let tcp = trace.tcp_conns.get(id).map(|conn| (conn.from_resolver, &conn.from_dial));
            let shared = &resolver_dial.shared_dial;
            self.resolves(&who, "sharedDial", shared, &trace.dials);
            let made_by = if shared.is_undefined() { (true, &dial.trace_id) } else { (false, shared) };
            let is_own = udp.or(tcp) == Some(made_by);
            let what =
                format!("the resolver dial to {} did not establish its connection", resolver_dial.nameserver);
            self.problems.expect(id.is_undefined() || is_own, &who, what);
        }
        let has_reasons = dial.skip_reasons.len() == dial.skipped_nameservers.len();
        self.problems.expect(has_reasons, &who, "does not have a reason for each skipped nameserver");
    }

    fn tcp_conn(&mut self, conn: &TcpConnTrace) {
        self.resolves(name(conn), "fromDial", &conn.from_dial, &self.trace.dials);
    }

    fn udp_conn(&mut self, conn: &UdpConnTrace) {
        self.resolves(name(conn), "fromDial", &conn.from_dial, &self.trace.dials);
    }

    fn dns_query(&mut self, query: &DnsQueryTrace) {
        let udp = self.trace.udp_conns.get(&query.connection).map(|conn| &conn.from_dial);
        let tcp = self.trace.tcp_conns.get(&query.connection).map(|conn| &conn.from_dial);
        let (trace, who) = (self.trace, name(query));
        // A connection that is shared by lookups was made by a dial of its own, which no request triggered.
        let is_shared = tcp.and_then(|dial| trace.dials.get(dial)).is_some_and(|dial| {
            dial.triggered_by.is_undefined() && dial.established_conn == query.connection
        });
        let same_dial = udp.or(tcp) == Some(&query.from_dial);
        self.problems.expect(same_dial || is_shared, &who, "its connection is not part of its dial");
        self.resolves(&who, "httpReq", &query.http_req, &trace.http_requests);
        if let Some(request) = trace.http_requests.get(&query.http_req) {
            let same_conn = request.tcp_conn == query.connection;
            self.problems.expect(same_conn, &who, "its request is on another connection");
        }
    }

    fn tls_tunnel(&mut self, tunnel: &TlsTunnelTrace) {
        self.resolves(name(tunnel), "tcpConn", &tunnel.tcp_conn, &self.trace.tcp_conns);
    }

    fn http_request(&mut self, request: &HttpReqTrace) {
        let (trace, who) = (self.trace, name(request));
        self.resolves(&who, "tcpConn", &request.tcp_conn, &trace.tcp_conns);
        self.resolves(&who, "tlsTunnel", &request.tls_tunnel, &trace.tls_tunnels);
        self.resolves(&who, "proxyTLSTunnel", &request.proxy_tls_tunnel, &trace.tls_tunnels);
        self.resolves(&who, "prevHop", &request.prev_hop, &trace.http_requests);
        self.resolves(&who, "triggeredBy", &request.triggered_by, &trace.http_requests);
        let cause = trace.http_requests.get(&request.triggered_by);
        if cause.is_some_and(|cause| cause.accepted) {
            self.problems.expect(!request.accepted, &who, "was made by this program, but is accepted");
        } else if !request.triggered_by.is_undefined() {
            let is_connect = request.req_method == "CONNECT" && !request.network_proxy.is_empty();
            self.problems.expect(
                is_connect,
                &who,
                "was triggered by a request, but is no CONNECT to a proxy",
            );
            self.problems.expect(
                request.tls_tunnel.is_undefined(),
                &who,
                "was triggered by a request, but has a TLS tunnel to the server",
            );
            let conn = trace.tcp_conns.get(&request.tcp_conn);
            let dial = conn.and_then(|conn| trace.dials.get(&conn.from_dial));
            let same = dial.is_none_or(|dial| dial.triggered_by == *request.triggered_by);
            self.problems.expect(same, &who, "was not triggered by the same request as its dial");
        }
        for tunnel in [&request.tls_tunnel, &request.proxy_tls_tunnel] {
            if let Some(tunnel) = trace.tls_tunnels.get(tunnel) {
                let same = tunnel.tcp_conn == request.tcp_conn;
                self.problems.expect(
                    same,
                    &who,
                    format!("its tunnel {} is on another connection", tunnel.trace_id),
                );
            }
        }
        for attempt in &request.attempts {
            self.resolves(&who, "attempts[].tcpConn", &attempt.tcp_conn, &trace.tcp_conns);
        }
        if let Some((last, others)) = request.attempts.split_last() {
            // The peer may have rejected the request unprocessed, and the request ended before it was sent again.
            let ended_elsewhere = last.failure.is_some() && request.end_reason != Some(EndReason::Closed);
            let fits =
                last.tcp_conn == request.tcp_conn && (last.failure == request.failure || ended_elsewhere);
            self.problems.expect(
                fits,
                &who,
                "the last attempt has another connection or failure than the request",
            );
            let failed = others.iter().all(|attempt| attempt.failure.is_some());
            self.problems.expect(failed, &who, "an attempt before the last did not fail");
        }
    }

    fn resolves<R: Record>(
        &mut self,
        who: impl AsRef<str>,
        field: &str,
        id: &TraceId,
        list: &nettrace::record::TraceList<R>,
    ) {
        let resolves = id.is_undefined() || list.get(id).is_some();
        self.problems.expect(resolves, who.as_ref(), format!("{field} {id} does not resolve"));
    }
}
