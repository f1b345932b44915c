//! The durations of a request's phases, computed from its records.
//!
//! Nothing is recorded for them: the request has the times at which it was sent, got a connection and was answered, and
//! its dial and tunnels have those of the lookup and the handshakes. A phase counts only if the request itself caused
//! it.

use super::{
    DialTrace, HttpReqTrace, NetTrace, TcpConnTrace, Timestamp, Timings,
    phase_times::{AttemptTimes, DialTimes, Phase, RequestTimes},
};
use smallvec::SmallVec;

impl HttpReqTrace {
    /// Returns the durations of the request's phases, computed from the request, its dial and its tunnels in `trace`.
    pub fn timings(&self, trace: &NetTrace) -> Timings {
        let axis = TimeAxis::new(trace);
        let Some(begin) = axis.at(self.req_sent_at) else { return Timings::default() };
        let times = RequestTimes {
            begin,
            acquired: axis.at(self.conn_acquired_at),
            body_end: axis.at(self.req_body_end_at),
            response: axis.at(self.resp_recv_at),
            response_end: axis.at(self.resp_body_end_at),
            end: axis.at(self.end_at),
            is_response_body_unobserved: self.is_response_body_unobserved(),
            dial: self.own_dial(trace).map(|dial| OwnDial::new(self, trace, axis, dial).times()),
        };
        times.timings()
    }

    /// Returns the dial that the request caused and that made its connection, or failed to.
    fn own_dial<'a>(&self, trace: &'a NetTrace) -> Option<&'a DialTrace> {
        let mut caused = trace.dials.children_of(&self.trace_id);
        if self.tcp_conn.is_undefined() {
            return caused.next_back();
        }
        match trace.tcp_conns.get(&self.tcp_conn) {
            Some(conn) => trace
                .dials
                .get(&conn.from_dial)
                .filter(|dial| dial.triggered_by == self.trace_id && !self.trace_id.is_undefined()),
            None => caused.take(MAX_RELATED_RECORDS).find(|dial| dial.established_conn == self.tcp_conn),
        }
    }
}

/// The maximum number of related records that are examined for one request. There are seldom more than two. The limit
/// keeps the timings of all requests linear in the size of any trace.
const MAX_RELATED_RECORDS: usize = 64;

/// A request's own dial, with its tunnels.
struct OwnDial<'a> {
    request: &'a HttpReqTrace,
    trace: &'a NetTrace,
    axis: TimeAxis,
    dial: &'a DialTrace,
    established: Option<&'a TcpConnTrace>,
}

impl<'a> OwnDial<'a> {
    fn new(request: &'a HttpReqTrace, trace: &'a NetTrace, axis: TimeAxis, dial: &'a DialTrace) -> Self {
        OwnDial { request, trace, axis, dial, established: trace.tcp_conns.get(&dial.established_conn) }
    }

    fn times(&self) -> DialTimes {
        let OwnDial { axis, dial, established, .. } = *self;
        let is_unix = established.is_some_and(|conn| !conn.unix_path.is_empty());
        DialTimes {
            begin: axis.at(dial.dial_begin_at),
            end: axis.at(dial.dial_end_at),
            resolve_begin: axis.at(dial.resolve_begin_at),
            resolve_end: axis.at(dial.resolve_end_at),
            attempt: self.attempt(),
            is_lookup_unobserved: dial.is_lookup_unobserved() && !is_unix,
            proxy: self.proxy(),
            handshakes: self.handshakes(),
        }
    }

    fn attempt(&self) -> Option<AttemptTimes> {
        let mut attempts = self.trace.tcp_conns.children_of(&self.dial.trace_id).take(MAX_RELATED_RECORDS);
        let first = self.established.or_else(|| attempts.find(|conn| !conn.from_resolver))?;
        Some(AttemptTimes {
            begin: self.axis.at(first.handshake_begin_at),
            established: self.established.and_then(|conn| self.axis.at(conn.handshake_end_at)),
        })
    }

    fn proxy(&self) -> Option<Phase> {
        let conn = self.established?;
        if let Some(socks) = &conn.socks {
            return self.phase(socks.handshake_begin_at, socks.handshake_end_at);
        }
        if self.request.network_proxy.is_empty() {
            return None; // without a proxy there is no CONNECT
        }
        let mut connects =
            self.trace.http_requests.children_of(&self.request.trace_id).take(MAX_RELATED_RECORDS);
        let connect = connects.find(|request| request.tcp_conn == conn.trace_id)?;
        self.phase(connect.req_sent_at, connect.end_at)
    }

    fn handshakes(&self) -> SmallVec<[Phase; 2]> {
        let linked = [&self.request.proxy_tls_tunnel, &self.request.tls_tunnel];
        // A request that failed or was dropped during the handshake may have no link to the tunnel.
        let unlinked =
            linked.iter().all(|id| id.is_undefined()) && !self.dial.established_conn.is_undefined();
        let tunnels = self.trace.tls_tunnels.children_of(&self.dial.established_conn);
        let tunnels = tunnels.take(if unlinked { MAX_RELATED_RECORDS } else { 0 });
        let tunnels = tunnels.chain(linked.into_iter().filter_map(|id| self.trace.tls_tunnels.get(id)));
        tunnels.filter_map(|tunnel| self.phase(tunnel.handshake_begin_at, tunnel.handshake_end_at)).collect()
    }

    fn phase(&self, begin: Timestamp, end: Timestamp) -> Option<Phase> {
        Some(Phase { begin: self.axis.at(begin)?, end: self.axis.at(end) })
    }
}

/// Converts relative and absolute times to nanoseconds since the trace began.
#[derive(Clone, Copy)]
pub(super) struct TimeAxis {
    begin_unix_nanos: i128,
}

impl TimeAxis {
    pub(super) fn new(trace: &NetTrace) -> Self {
        TimeAxis { begin_unix_nanos: trace.trace_begin_at.unix_nanos().unwrap_or(0) }
    }

    pub(super) fn at(self, time: Timestamp) -> Option<i128> {
        let relative = time.relative_nanos().map(i128::from);
        relative.or_else(|| Some(time.unix_nanos()? - self.begin_unix_nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Returns the timings of the first request of a trace, as text.
    fn timings(trace: Value) -> String {
        let trace: NetTrace = serde_json::from_value(trace).unwrap();
        trace.http_requests[0].timings(&trace).to_string()
    }

    /// Returns the trace of a request with its own dial: lookup from 10 to 20 ms, TCP until 30 ms, TLS until 45 ms.
    fn fresh() -> Value {
        json!({
            "traceBeginAt": "2026-01-01T00:00:00Z",
            "dials": [{
                "traceID": "d", "triggeredBy": "r", "dialBeginAt": "+9ms", "resolveBeginAt": "+10ms",
                "resolveEndAt": "+20ms", "dialEndAt": "+31ms", "establishedConn": "c",
            }],
            "tcpConns": [
                {"traceID": "lost", "fromDial": "d", "handshakeBeginAt": "+18ms", "handshakeEndAt": "+30ms"},
                {"traceID": "c", "fromDial": "d", "handshakeBeginAt": "+21ms", "handshakeEndAt": "+30ms"},
            ],
            "tlsTunnels": [
                {"traceID": "s", "tcpConn": "c", "handshakeBeginAt": "+30ms", "handshakeEndAt": "+45ms"},
            ],
            "httpRequests": [{
                "traceID": "r", "tcpConn": "c", "tlsTunnel": "s", "reqSentAt": "+5ms", "connAcquiredAt": "+46ms",
                "reqBodyEndAt": "+50ms", "respRecvAt": "+80ms", "respBodyEndAt": "+90ms", "endAt": "+90ms",
            }],
        })
    }

    /// Returns the trace of [`fresh`] with some fields changed. Null removes a field.
    fn changed(changes: &[(&str, Value)]) -> Value {
        let mut trace = fresh();
        for (pointer, value) in changes {
            let (record, field) = pointer.rsplit_once('/').unwrap();
            let record = trace.pointer_mut(record).unwrap().as_object_mut().unwrap();
            match value {
                Value::Null => record.remove(field),
                value => record.insert(field.to_owned(), value.clone()),
            };
        }
        trace
    }

    #[test]
    fn a_request_with_its_own_dial_has_all_phases() {
        assert_eq!(
            timings(fresh()),
            "blocked 6.0 ms · dns 10.0 ms · connect 10.0 ms · tls 15.0 ms · send 4.0 ms · wait 30.0 ms · \
             receive 10.0 ms · total 85.0 ms"
        );
    }

    #[test]
    fn waiting_for_a_connection_of_another_request_is_blocked_time() {
        assert_eq!(
            timings(changed(&[("/dials/0/triggeredBy", json!("other"))])),
            "blocked 41.0 ms · send 4.0 ms · wait 30.0 ms · receive 10.0 ms · total 85.0 ms"
        );
        // The request has its own dial, but got a connection that became idle before.
        assert_eq!(
            timings(changed(&[
                ("/httpRequests/0/tcpConn", json!("lost")),
                ("/tcpConns/0/fromDial", json!("d2"))
            ])),
            "blocked 41.0 ms · send 4.0 ms · wait 30.0 ms · receive 10.0 ms · total 85.0 ms"
        );
    }

    #[test]
    fn without_a_lookup_there_is_no_dns_phase() {
        let no_dns = [("/dials/0/resolveBeginAt", Value::Null), ("/dials/0/resolveEndAt", Value::Null)];
        assert!(
            timings(changed(&no_dns)).starts_with("blocked 5.0 ms · connect 21.0 ms · tls 15.0 ms · send")
        );
    }

    fn failed_at(ms: u64, changes: &[(&str, Value)]) -> String {
        let unseen = ["connAcquiredAt", "reqBodyEndAt", "respRecvAt", "respBodyEndAt"];
        let unseen = unseen.map(|field| (format!("/httpRequests/0/{field}"), Value::Null));
        let mut all: Vec<(&str, Value)> = unseen.iter().map(|(at, v)| (at.as_str(), v.clone())).collect();
        all.push(("/httpRequests/0/endAt", json!(format!("+{ms}ms"))));
        all.extend_from_slice(changes);
        timings(changed(&all))
    }

    #[test]
    fn a_failed_lookup_ends_the_dns_phase() {
        let changes = [
            ("/httpRequests/0/tcpConn", Value::Null),
            ("/httpRequests/0/tlsTunnel", Value::Null),
            ("/dials/0/establishedConn", Value::Null),
            ("/dials/0/dialEndAt", json!("+20ms")),
            ("/tcpConns", json!([])),
            ("/tlsTunnels", json!([])),
        ];
        assert_eq!(failed_at(21, &changes), "blocked 6.0 ms · dns 10.0 ms · total 16.0 ms");
        // The request was dropped during the lookup, and the dial may continue without it.
        let dropped = [&changes[..], &[("/dials/0/resolveEndAt", Value::Null)]].concat();
        assert_eq!(failed_at(15, &dropped), "blocked 5.0 ms · dns 5.0 ms · total 10.0 ms");
    }

    #[test]
    fn a_failed_connect_ends_the_connect_phase() {
        let changes = [
            ("/httpRequests/0/tcpConn", Value::Null),
            ("/httpRequests/0/tlsTunnel", Value::Null),
            ("/dials/0/establishedConn", Value::Null),
            ("/tlsTunnels", json!([])),
        ];
        assert_eq!(failed_at(31, &changes), "blocked 5.0 ms · dns 10.0 ms · connect 11.0 ms · total 26.0 ms");
        assert_eq!(failed_at(25, &changes), "blocked 5.0 ms · dns 10.0 ms · connect 5.0 ms · total 20.0 ms");
        // The attempts of one family began while the lookup of the other one did not end.
        let half = [&changes[..], &[("/dials/0/resolveEndAt", Value::Null)]].concat();
        assert_eq!(failed_at(31, &half), "blocked 0 · dns 21.0 ms · connect 13.0 ms · total 26.0 ms");
    }

    #[test]
    fn a_failed_handshake_ends_the_tls_phase() {
        let unlinked = [("/httpRequests/0/tcpConn", Value::Null), ("/httpRequests/0/tlsTunnel", Value::Null)];
        let expected = "blocked 5.0 ms · dns 10.0 ms · connect 10.0 ms · tls 10.0 ms · total 35.0 ms";
        assert_eq!(failed_at(40, &[]), expected);
        assert_eq!(failed_at(40, &unlinked), expected);
        // The handshake began after the request was dropped.
        assert_eq!(failed_at(29, &unlinked), "blocked 5.0 ms · dns 10.0 ms · connect 9.0 ms · total 24.0 ms");
    }

    #[test]
    fn a_failure_on_the_connection_ends_the_current_phase() {
        let acquired = [("/httpRequests/0/connAcquiredAt", json!("+46ms"))];
        let sent = [&acquired[..], &[("/httpRequests/0/reqBodyEndAt", json!("+50ms"))]].concat();
        let answered = [&sent[..], &[("/httpRequests/0/respRecvAt", json!("+80ms"))]].concat();
        assert!(failed_at(49, &acquired).ends_with("tls 15.0 ms · send 3.0 ms · total 44.0 ms"));
        assert!(failed_at(60, &sent).ends_with("send 4.0 ms · wait 10.0 ms · total 55.0 ms"));
        assert!(failed_at(81, &answered).ends_with("wait 30.0 ms · receive 1.0 ms · total 76.0 ms"));
    }

    #[test]
    fn without_an_acquisition_time_there_are_no_blocked_and_send_phases() {
        let not_acquired = ("/httpRequests/0/connAcquiredAt", Value::Null);
        assert_eq!(
            timings(changed(std::slice::from_ref(&not_acquired))),
            "dns 10.0 ms · connect 10.0 ms · tls 15.0 ms · wait 30.0 ms · receive 10.0 ms · total 85.0 ms"
        );
        let no_body = ("/httpRequests/0/reqBodyEndAt", Value::Null);
        assert_eq!(
            timings(changed(&[not_acquired, no_body])),
            "dns 10.0 ms · connect 10.0 ms · tls 15.0 ms · receive 10.0 ms · total 85.0 ms"
        );
    }

    #[test]
    fn a_response_before_the_end_of_the_request_body_has_no_wait() {
        let early = [("/httpRequests/0/reqBodyEndAt", json!("+85ms"))];
        assert!(
            timings(changed(&early)).ends_with("send 34.0 ms · wait 0 · receive 10.0 ms · total 85.0 ms")
        );
        let never = [("/httpRequests/0/reqBodyEndAt", Value::Null)];
        assert!(timings(changed(&never)).ends_with("send 34.0 ms · receive 10.0 ms · total 85.0 ms"));
    }

    #[test]
    fn running_phases_have_no_time() {
        let running = |fields: &[&str]| {
            let at = |field| format!("/httpRequests/0/{field}");
            let pointers: Vec<_> = ["endAt", "respBodyEndAt"].iter().chain(fields).map(at).collect();
            timings(changed(&pointers.iter().map(|at| (at.as_str(), Value::Null)).collect::<Vec<_>>()))
        };
        assert!(running(&[]).ends_with("send 4.0 ms · wait 30.0 ms"));
        assert!(running(&["respRecvAt"]).ends_with("tls 15.0 ms · send 4.0 ms"));
        assert_eq!(
            running(&["respRecvAt", "reqBodyEndAt", "connAcquiredAt"]),
            "dns 10.0 ms · connect 10.0 ms · tls 15.0 ms"
        );
        assert_eq!(running(&["respRecvAt", "reqBodyEndAt", "connAcquiredAt", "reqSentAt"]), "");
    }

    #[test]
    fn the_tls_phase_includes_the_handshake_with_a_proxy() {
        let mut trace = fresh();
        trace["tlsTunnels"].as_array_mut().unwrap().push(
            json!({"traceID": "p", "tcpConn": "c", "handshakeBeginAt": "+30ms", "handshakeEndAt": "+33ms"}),
        );
        trace["httpRequests"][0]["proxyTLSTunnel"] = json!("p");
        assert!(timings(trace).contains("tls 18.0 ms"));
    }

    #[test]
    fn times_before_the_trace_are_absolute() {
        let before = [("/httpRequests/0/reqSentAt", json!("2025-12-31T23:59:59Z"))];
        assert!(timings(changed(&before)).starts_with("blocked 1.01 s · "));
    }
}
