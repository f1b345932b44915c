//! Records are named once, and refer to records that are there and refer back.

use std::collections::HashSet;

use nettrace::record::{
    DialTrace, DnsQueryTrace, EndReason, HttpReqTrace, NetTrace, Record, TcpConnTrace, TlsTunnelTrace,
    TraceId, UdpConnTrace,
};

use super::{Named, Problems, name};

pub(super) fn look(trace: &NetTrace, problems: &mut Problems) {
    let mut names = Names { seen: HashSet::new(), problems };
    names.take(&trace.dials);
    names.take(&trace.tcp_conns);
    names.take(&trace.udp_conns);
    names.take(&trace.dns_queries);
    names.take(&trace.tls_tunnels);
    names.take(&trace.http_requests);

    let mut links = Links { trace, problems };
    trace.dials.iter().for_each(|dial| links.dial(dial));
    trace.tcp_conns.iter().for_each(|conn| links.tcp_conn(conn));
    trace.udp_conns.iter().for_each(|conn| links.udp_conn(conn));
    trace.dns_queries.iter().for_each(|query| links.dns_query(query));
    trace.tls_tunnels.iter().for_each(|tunnel| links.tls_tunnel(tunnel));
    trace.http_requests.iter().for_each(|request| links.http_request(request));
}

struct Names<'a> {
    seen: HashSet<&'a str>,
    problems: &'a mut Problems,
}

impl<'a> Names<'a> {
    fn take<R: Named>(&mut self, records: &'a [R]) {
        for record in records {
            let id = record.trace_id().as_str();
            self.problems.expect(!id.is_empty(), name(record), "has no identifier");
            self.problems.expect(self.seen.insert(id), name(record), "is not the only one of that name");
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
            let mine = conn.from_dial == dial.trace_id && conn.connected && !conn.from_resolver;
            self.problems.expect(mine, &who, format!("did not make its connection {}", conn.trace_id));
        }
        for resolver_dial in &dial.resolver_dials {
            let id = &resolver_dial.established_conn;
            let udp = trace.udp_conns.get(id).map(|conn| (conn.from_resolver, &conn.from_dial));
            let tcp = trace.tcp_conns.get(id).map(|conn| (conn.from_resolver, &conn.from_dial));
            let mine = udp.or(tcp) == Some((true, &dial.trace_id));
            let what =
                format!("resolver dial to {} leads to no connection of its own", resolver_dial.nameserver);
            self.problems.expect(id.is_undefined() || mine, &who, what);
        }
        let reasons = dial.skip_reasons.len() == dial.skipped_nameservers.len();
        self.problems.expect(reasons, &who, "skipped nameservers without a reason each");
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
        let same_dial = udp.or(tcp) == Some(&query.from_dial);
        self.problems.expect(same_dial, name(query), "has no connection of its dial");
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
        if !request.triggered_by.is_undefined() {
            let is_connect = request.req_method == "CONNECT" && !request.network_proxy.is_empty();
            self.problems.expect(is_connect, &who, "was triggered, and is no CONNECT to a proxy");
            self.problems.expect(request.tls_tunnel.is_undefined(), &who, "has a tunnel to the server");
            let conn = trace.tcp_conns.get(&request.tcp_conn);
            let dial = conn.and_then(|conn| trace.dials.get(&conn.from_dial));
            let same = dial.is_none_or(|dial| dial.triggered_by == *request.triggered_by);
            self.problems.expect(same, &who, "was triggered by another request than its dial");
        }
        for tunnel in [&request.tls_tunnel, &request.proxy_tls_tunnel] {
            if let Some(tunnel) = trace.tls_tunnels.get(tunnel) {
                let same = tunnel.tcp_conn == request.tcp_conn;
                self.problems.expect(same, &who, format!("{} is of another connection", tunnel.trace_id));
            }
        }
        for attempt in &request.attempts {
            self.resolves(&who, "attempts[].tcpConn", &attempt.tcp_conn, &trace.tcp_conns);
        }
        if let Some((last, others)) = request.attempts.split_last() {
            // Or the peer did not process it there, and it did not get to be sent again.
            let ended_elsewhere = last.failure.is_some() && request.end_reason != Some(EndReason::Closed);
            let fits =
                last.tcp_conn == request.tcp_conn && (last.failure == request.failure || ended_elsewhere);
            self.problems.expect(fits, &who, "the last attempt is not what the request came to");
            let failed = others.iter().all(|attempt| attempt.failure.is_some());
            self.problems.expect(failed, &who, "an attempt was not the last, and did not fail");
        }
    }

    fn resolves<R: Record>(
        &mut self,
        who: impl AsRef<str>,
        field: &str,
        id: &TraceId,
        list: &nettrace::record::TraceList<R>,
    ) {
        let there = id.is_undefined() || list.get(id).is_some();
        self.problems.expect(there, who.as_ref(), format!("{field} {id} leads nowhere"));
    }
}
