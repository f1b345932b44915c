//! [`UsualTimes`]: how long each phase usually takes for a host, according to the trace itself.
//!
//! "Slow" means nothing without a comparison. The rules compare a phase with the same phase of the trace's other
//! requests to the same host. The index is built when a rule first asks for it, in time linear in the size of the trace
//! apart from sorting, and a question costs a binary search.

use super::host_name::{host_of, host_of_url};
use crate::{
    graph::TraceGraph,
    record::{EndReason, HttpReqTrace, Record, Timestamp, TraceId},
};
use std::{cell::OnceCell, collections::HashMap};

/// A part of a request whose durations are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// The lookup of the name. The host is the one that was dialed.
    Lookup,
    /// The handshake of TCP. The host is the one that was dialed.
    Connect,
    /// A TLS handshake that resumed no session. The host is the server name, or the one that was dialed.
    FullHandshake,
    /// The time until a proxy had opened a tunnel. The host is the proxy, as `host:port`.
    Tunnel,
    /// From when the whole request was sent until the head of the response was there. The host is that of the URL.
    Wait,
    /// From the begin of the request until the head of the response was there. The host is that of the URL.
    Response,
    /// The whole request. The host is that of the URL.
    Total,
}

/// The durations of the phases of all hosts.
pub(super) struct UsualTimes<'a> {
    graph: &'a TraceGraph<'a>,
    samples: OnceCell<Samples<'a>>,
}

/// Durations in nanoseconds, in ascending order, each with the identifier of its record.
type Samples<'a> = HashMap<Phase, HashMap<String, Vec<(i64, &'a TraceId)>>>;

/// How long a phase took elsewhere in the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usual<'a> {
    /// How often the phase was measured, without the one that is compared.
    pub(super) count: usize,
    /// The median in nanoseconds.
    pub(super) median: i64,
    /// The duration in nanoseconds that nine of ten do not exceed.
    pub(super) high: i64,
    /// The record with the median.
    pub(super) example: &'a TraceId,
}

/// The time in nanoseconds that the scheduler of a busy machine may add. What took longer only by less is not slow.
pub(super) const SCHEDULING: i64 = 100_000_000;

impl Usual<'_> {
    /// Returns `true` if a duration is above the spread of the others: three times the median, twice what nine of ten
    /// take, and more than the scheduler of a busy machine adds.
    pub(super) fn is_exceeded_by(&self, nanos: i64) -> bool {
        nanos >= self.median.saturating_mul(3)
            && nanos >= self.high.saturating_mul(2)
            && nanos.saturating_sub(self.median) >= SCHEDULING
    }
}

impl<'a> UsualTimes<'a> {
    pub(super) fn new(graph: &'a TraceGraph<'a>) -> Self {
        UsualTimes { graph, samples: OnceCell::new() }
    }

    /// Returns how long a phase takes for a host. `own` is the duration that is to be compared, which is left out if it
    /// is one of the measured ones. Returns `None` if there are fewer than four others.
    pub(super) fn of(&self, phase: Phase, host: &str, own: Option<i64>) -> Option<Usual<'a>> {
        const MIN_COUNT: usize = 4;
        let samples = self.samples.get_or_init(|| samples(self.graph)).get(&phase)?.get(host)?;
        let skipped = own.and_then(|own| samples.binary_search_by_key(&own, |(nanos, _)| *nanos).ok());
        let skipped = skipped.unwrap_or(samples.len());
        let count = samples.len() - usize::from(skipped < samples.len());
        if count < MIN_COUNT {
            return None;
        }
        let nth = |at: usize| samples[at + usize::from(at >= skipped)];
        let ((median, example), (high, _)) = (nth(count / 2), nth((count * 9).div_ceil(10) - 1));
        Some(Usual { count, median, high, example })
    }
}

fn samples<'a>(graph: &TraceGraph<'a>) -> Samples<'a> {
    let trace = graph.trace;
    let mut all = Samples::new();
    let mut add = |phase: Phase, id: &'a TraceId, host: &str, begin: Timestamp, end: Timestamp| {
        let Some((begin, end)) = graph.times.at(begin).zip(graph.times.at(end)) else { return };
        let hosts = all.entry(phase).or_default();
        match hosts.get_mut(host) {
            Some(samples) => samples.push((end.saturating_sub(begin), id)),
            None => _ = hosts.insert(host.to_owned(), vec![(end.saturating_sub(begin), id)]),
        }
    };
    for dial in trace.dials.iter().filter(|dial| !dial.established_conn.is_undefined()) {
        add(
            Phase::Lookup,
            dial.trace_id(),
            host_of(&dial.dst_address),
            dial.resolve_begin_at,
            dial.resolve_end_at,
        );
    }
    let dialed = |conn| trace.dials.get(conn).map(|dial| &*dial.dst_address);
    let dialed_over = |conn| trace.tcp_conns.get(conn).and_then(|conn| dialed(&conn.from_dial));
    for conn in trace.tcp_conns.iter().filter(|conn| conn.connected && !conn.from_resolver) {
        if let Some(target) = dialed(&conn.from_dial) {
            add(
                Phase::Connect,
                conn.trace_id(),
                host_of(target),
                conn.handshake_begin_at,
                conn.handshake_end_at,
            );
            if let Some(socks) = conn.socks.as_ref().filter(|socks| socks.failure.is_none()) {
                add(Phase::Tunnel, conn.trace_id(), target, socks.handshake_begin_at, socks.handshake_end_at);
            }
        }
    }
    for tunnel in trace.tls_tunnels.iter().filter(|tunnel| tunnel.handshake_err.is_empty()) {
        let dialed = || dialed_over(&tunnel.tcp_conn).map(host_of);
        let name = Some(&*tunnel.server_name).filter(|name| !name.is_empty()).or_else(dialed);
        if let Some(name) = name.filter(|_| !tunnel.did_resume) {
            add(
                Phase::FullHandshake,
                tunnel.trace_id(),
                name,
                tunnel.handshake_begin_at,
                tunnel.handshake_end_at,
            );
        }
    }
    for request in trace.http_requests.iter().filter(|request| is_answered(request)) {
        if graph.is_connect(request) {
            if let Some(proxy) = dialed_over(&request.tcp_conn).filter(|_| is_success(request)) {
                add(Phase::Tunnel, request.trace_id(), proxy, request.req_sent_at, request.end_at);
            }
            continue;
        }
        let host = host_of_url(&request.req_url);
        add(Phase::Wait, request.trace_id(), &host, request.req_body_end_at, request.resp_recv_at);
        add(Phase::Response, request.trace_id(), &host, request.req_sent_at, request.resp_recv_at);
        if request.end_reason == Some(EndReason::Closed) {
            add(Phase::Total, request.trace_id(), &host, request.req_sent_at, request.end_at);
        }
    }
    all.values_mut().flat_map(HashMap::values_mut).for_each(|samples| samples.sort_unstable());
    all
}

/// Returns `true` if a response arrived at this side.
fn is_answered(request: &HttpReqTrace) -> bool {
    !request.accepted && request.resp_status_code != 0
}

fn is_success(request: &HttpReqTrace) -> bool {
    (200..300).contains(&request.resp_status_code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_usual_time_leaves_out_the_own_one() {
        let request = |ms: u64| {
            json!({"traceID": ms.to_string(), "reqURL": "http://web.test:81/", "respStatusCode": 200,
                "reqSentAt": "+0ms", "reqBodyEndAt": "+0ms", "respRecvAt": format!("+{ms}ms"),
                "endAt": format!("+{ms}ms"), "endReason": "closed"})
        };
        let requests = [10, 11, 12, 13, 900].map(request);
        let trace = json!({"traceBeginAt": "2026-01-01T00:00:00Z", "httpRequests": requests});
        let trace = serde_json::from_value(trace).unwrap();
        let graph = TraceGraph::new(&trace);
        let times = UsualTimes::new(&graph);
        let ms = |ms: i64| ms * 1_000_000;
        let usual = times.of(Phase::Wait, "web.test", Some(ms(900))).unwrap();
        assert_eq!(
            (usual.count, usual.median, usual.high, usual.example.as_str()),
            (4, ms(12), ms(13), "12")
        );
        assert!(usual.is_exceeded_by(ms(900)) && !usual.is_exceeded_by(ms(30)));
        let with_all = times.of(Phase::Total, "web.test", Some(ms(7))).unwrap();
        assert_eq!((with_all.count, with_all.median, with_all.high), (5, ms(12), ms(900)));
        assert_eq!(times.of(Phase::Wait, "other.test", None), None);
        assert_eq!(times.of(Phase::Lookup, "web.test", None), None);
    }
}
