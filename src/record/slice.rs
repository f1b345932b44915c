//! Slices: the part of a trace that belongs to one request.
//!
//! Follows the references between records in both directions, with a set of the identifiers to keep.

use std::collections::HashSet;

use super::{HttpReqTrace, NetTrace, Record, TraceList};

impl NetTrace {
    /// Returns the part of the trace that belongs to one request.
    ///
    /// It holds the request and the hops that led to it, the connections on which it was tried, their tunnels, the
    /// dials that made them or that the request triggered, all attempts and lookups of those dials, and each CONNECT
    /// made for them. For an accepted request it also holds the requests that were made while it was answered, with the
    /// same records of each.
    ///
    /// Times keep their meaning, since the slice has the begin of the trace. For a request that is not in the trace all
    /// lists are empty.
    pub fn slice(&self, request: impl AsRef<str>) -> NetTrace {
        self.slice_of([request.as_ref()])
    }

    /// Returns the part of the trace that belongs to any of these requests.
    pub(super) fn slice_of<'a>(&self, requests: impl IntoIterator<Item = &'a str>) -> NetTrace {
        let ids = SliceIds::new(self, requests);
        NetTrace {
            description: self.description.clone(),
            trace_begin_at: self.trace_begin_at,
            trace_end_at: self.trace_end_at,
            uuid: self.uuid.clone(),
            dials: filtered(&self.dials, |dial| ids.dials.contains(dial.trace_id.as_str())),
            tcp_conns: filtered(&self.tcp_conns, |conn| {
                ids.has_conn(conn.trace_id.as_str(), conn.from_dial.as_str())
            }),
            udp_conns: filtered(&self.udp_conns, |conn| {
                ids.has_conn(conn.trace_id.as_str(), conn.from_dial.as_str())
            }),
            dns_queries: filtered(&self.dns_queries, |query| {
                // The connection may have carried the lookups of others, too.
                let is_of_dial = ids.dials.contains(query.from_dial.as_str());
                is_of_dial || query.from_dial.is_undefined() && ids.conns.contains(query.connection.as_str())
            }),
            tls_tunnels: filtered(&self.tls_tunnels, |tunnel| {
                ids.tunnels.contains(tunnel.trace_id.as_str()) || ids.conns.contains(tunnel.tcp_conn.as_str())
            }),
            http_requests: filtered(&self.http_requests, |req| ids.has_request(req)),
            dropped: None,
        }
    }
}

fn filtered<T: Record + Clone>(list: &TraceList<T>, keep: impl Fn(&T) -> bool) -> TraceList<T> {
    list.iter().filter(|record| keep(record)).cloned().collect()
}

/// The identifiers of the records in a slice.
#[derive(Default)]
struct SliceIds<'a> {
    requests: HashSet<&'a str>,
    dials: HashSet<&'a str>,
    /// TCP and UDP connections.
    conns: HashSet<&'a str>,
    tunnels: HashSet<&'a str>,
}

impl<'a> SliceIds<'a> {
    fn new<'r>(trace: &'a NetTrace, requests: impl IntoIterator<Item = &'r str>) -> Self {
        let mut ids = SliceIds::default();
        ids.add_requests(trace, requests);
        for tunnel in ids.tunnels.iter().filter_map(|id| trace.tls_tunnels.get(id)) {
            insert_defined(&mut ids.conns, tunnel.tcp_conn.as_str());
        }
        let made_by = ids.conns.iter().filter_map(|id| trace.tcp_conns.get(id)).map(|conn| &conn.from_dial);
        for dial in made_by {
            insert_defined(&mut ids.dials, dial.as_str());
        }
        for dial in &trace.dials {
            if ids.requests.contains(dial.triggered_by.as_str()) {
                insert_defined(&mut ids.dials, dial.trace_id.as_str());
            }
        }
        ids.add_shared_dials(trace);
        for dial in ids.dials.iter().filter_map(|id| trace.dials.get(id)) {
            insert_defined(&mut ids.conns, dial.established_conn.as_str());
            for resolver_dial in &dial.resolver_dials {
                insert_defined(&mut ids.conns, resolver_dial.established_conn.as_str());
            }
        }
        // Tunnels refer to connections, and attempts to dials, but not the other way round.
        for conn in &trace.tcp_conns {
            if ids.dials.contains(conn.from_dial.as_str()) {
                insert_defined(&mut ids.conns, conn.trace_id.as_str());
            }
        }
        ids
    }

    /// Adds the requests, those that were made for it, and hop by hop those that redirected to one of them.
    fn add_requests<'r>(&mut self, trace: &'a NetTrace, requests: impl IntoIterator<Item = &'r str>) {
        let found = requests.into_iter().filter_map(|id| trace.http_requests.get(id));
        let mut waiting: Vec<&'a str> = found.map(|request| request.trace_id.as_str()).collect();
        while let Some(next) = waiting.pop() {
            let Some(request) = trace.http_requests.get(next) else { continue };
            if !self.requests.insert(next) {
                continue;
            }
            insert_defined(&mut self.conns, request.tcp_conn.as_str());
            for attempt in &request.attempts {
                insert_defined(&mut self.conns, attempt.tcp_conn.as_str());
            }
            insert_defined(&mut self.tunnels, request.tls_tunnel.as_str());
            insert_defined(&mut self.tunnels, request.proxy_tls_tunnel.as_str());
            waiting.push(request.prev_hop.as_str());
            let made_for = trace.http_requests.children_of(&request.trace_id);
            waiting.extend(made_for.map(|made| made.trace_id.as_str()));
        }
    }

    /// Adds what carried the lookups of the dials over connections that other dials made: their requests, connections
    /// and dials.
    fn add_shared_dials(&mut self, trace: &'a NetTrace) {
        let mut shared: Vec<&str> = Vec::new();
        for query in trace.dns_queries.iter().filter(|query| self.dials.contains(query.from_dial.as_str())) {
            insert_defined(&mut self.requests, query.http_req.as_str());
            if let Some(conn) = trace.tcp_conns.get(&query.connection) {
                shared.push(conn.from_dial.as_str());
            }
        }
        for dial in self.dials.iter().filter_map(|id| trace.dials.get(id)) {
            shared.extend(dial.resolver_dials.iter().map(|resolver_dial| resolver_dial.shared_dial.as_str()));
        }
        for dial in shared {
            insert_defined(&mut self.dials, dial);
        }
    }

    fn has_request(&self, request: &HttpReqTrace) -> bool {
        let is_connect = request.req_method == "CONNECT" && !request.triggered_by.is_undefined();
        let of_conn = is_connect && self.conns.contains(request.tcp_conn.as_str());
        of_conn || self.requests.contains(request.trace_id.as_str())
    }

    fn has_conn(&self, conn: &str, dial: &str) -> bool {
        self.conns.contains(conn) || self.dials.contains(dial)
    }
}

/// Inserts an identifier unless it is undefined. Returns `true` if it is new.
fn insert_defined<'a>(ids: &mut HashSet<&'a str>, id: &'a str) -> bool {
    !id.is_empty() && ids.insert(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two requests with a connection each, of which the second needed a CONNECT, and a third that was redirected from
    /// the first and reuses the connection of the second. An accepted request, and two that were made for it.
    fn trace() -> NetTrace {
        serde_json::from_value(serde_json::json!({
            "description": "all", "traceBeginAt": "2026-01-01T00:00:00Z", "traceEndAt": "+9ms",
            "dials": [
                {"traceID": "d1", "triggeredBy": "r1", "establishedConn": "c1b",
                 "resolverDials": [{"establishedConn": "u1"}, {"establishedConn": "t1"}]},
                {"traceID": "d2", "triggeredBy": "r2", "establishedConn": "c2"},
                {"traceID": "d4", "triggeredBy": "r4"}, {"traceID": "d5", "triggeredBy": "m1"},
            ],
            "tcpConns": [
                {"traceID": "c1a", "fromDial": "d1"}, {"traceID": "c1b", "fromDial": "d1"},
                {"traceID": "t1", "fromDial": "d1", "fromResolver": true}, {"traceID": "c2", "fromDial": "d2"},
                {"traceID": "c4", "fromDial": "d4"}, {"traceID": "c5", "fromDial": "d5"}, {"traceID": "in"},
                {"traceID": "stale", "fromDial": "gone"},
            ],
            "udpConns": [{"traceID": "u1", "fromDial": "d1"}, {"traceID": "u2", "fromDial": "d2"}],
            "dnsQueries": [
                {"traceID": "q1", "fromDial": "d1", "connection": "u1"},
                {"traceID": "q2", "fromDial": "d2", "connection": "u2"},
            ],
            "tlsTunnels": [{"traceID": "s1", "tcpConn": "c1b"}, {"traceID": "s2", "tcpConn": "c2"}],
            "httpRequests": [
                {"traceID": "r1", "tcpConn": "c1b"},
                {"traceID": "r2", "tcpConn": "c2", "tlsTunnel": "s2",
                 "attempts": [{"tcpConn": "stale"}, {"tcpConn": "c2"}]},
                {"traceID": "r3", "tcpConn": "c2", "prevHop": "r1"},
                {"traceID": "r4", "prevHop": "r4"},
                {"traceID": "c", "reqMethod": "CONNECT", "tcpConn": "c2", "triggeredBy": "r2"},
                {"traceID": "s", "accepted": true, "tcpConn": "in"},
                {"traceID": "m1", "tcpConn": "c5", "triggeredBy": "s"},
                {"traceID": "m2", "tcpConn": "c5", "triggeredBy": "s", "prevHop": "m1"},
                {"traceID": "m3", "tcpConn": "c5", "triggeredBy": "other"},
            ],
            "dropped": {"httpRequests": 3},
        }))
        .unwrap()
    }

    fn ids(trace: &NetTrace) -> String {
        fn of<T: Record>(list: &TraceList<T>) -> impl Iterator<Item = String> {
            list.iter().map(|record| record.trace_id().to_string())
        }
        let all = of(&trace.http_requests)
            .chain(of(&trace.dials))
            .chain(of(&trace.tcp_conns))
            .chain(of(&trace.udp_conns))
            .chain(of(&trace.dns_queries))
            .chain(of(&trace.tls_tunnels));
        all.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_slice_has_a_request_and_all_records_that_it_refers_to() {
        let trace = trace();
        assert_eq!(ids(&trace.slice("r1")), "r1 d1 c1a c1b t1 u1 q1 s1");
        assert_eq!(ids(&trace.slice(&trace.http_requests[1].trace_id)), "r2 c d2 c2 stale u2 q2 s2");
        assert_eq!(ids(&trace.slice("r3")), "r1 r3 c d1 d2 c1a c1b t1 c2 u1 u2 q1 q2 s1 s2");
        assert_eq!(ids(&trace.slice("r4")), "r4 d4 c4");
        assert_eq!(ids(&trace.slice("s")), "s m1 m2 d5 c5 in");
        assert_eq!(ids(&trace.slice("m2")), "m1 m2 d5 c5");
        assert_eq!(ids(&trace.slice("nothing")), "");
        assert_eq!(
            ids(&trace.slice("other")),
            "",
            "a request that another one names, and that is not in the trace"
        );
        assert_eq!(ids(&trace.slice("")), "");
    }

    #[test]
    fn a_slice_keeps_the_description_and_the_times() {
        let trace = trace();
        let slice = trace.slice("r1");
        assert_eq!((slice.trace_begin_at, slice.trace_end_at), (trace.trace_begin_at, trace.trace_end_at));
        assert_eq!((slice.description.as_str(), slice.dropped), ("all", None));
    }
}
