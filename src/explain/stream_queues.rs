//! [`StreamQueues`]: which requests waited because a connection had as many streams of HTTP/2 as the server allows.
//!
//! Neither hyper nor the records say when a stream was opened, so that this is estimated. Requests on a connection open
//! their streams in the order in which they got it, and a stream is certainly open until the head of its response comes.
//! The waits that follow are the shortest possible ones: a response whose body takes long holds its stream for longer.

use crate::{
    graph::TraceGraph,
    record::{EndReason, HttpReqTrace, TcpConnTrace},
};
use std::{
    cell::OnceCell,
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

/// The waits for streams in a trace. Put together when a rule first asks for them, in time linear in the number of
/// requests, except for sorting.
pub(super) struct StreamQueues<'a> {
    graph: &'a TraceGraph<'a>,
    waits: OnceCell<HashMap<&'a str, StreamWait<'a>>>,
}

/// How long a request waited for a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamWait<'a> {
    /// The number of streams that the server allows at a time (`MAX_CONCURRENT_STREAMS`).
    pub(super) limit: u32,
    /// The time in nanoseconds for which it certainly waited.
    pub(super) nanos: i64,
    /// The request that had one of the streams until then.
    pub(super) holder: &'a HttpReqTrace,
}

/// A request on a connection.
struct Use<'a> {
    acquired: i64,
    request: &'a HttpReqTrace,
}

impl<'a> StreamQueues<'a> {
    pub(super) fn new(graph: &'a TraceGraph<'a>) -> Self {
        StreamQueues { graph, waits: OnceCell::new() }
    }

    /// Returns how long a request waited for a stream. `None` if it did not, or if the limit of its connection is not
    /// known.
    pub(super) fn wait_of(&self, request: &HttpReqTrace) -> Option<StreamWait<'a>> {
        self.waits.get_or_init(|| self.waits()).get(request.trace_id.as_str()).copied()
    }

    fn waits(&self) -> HashMap<&'a str, StreamWait<'a>> {
        let trace = self.graph.trace;
        let limits: HashMap<_, _> =
            trace.tcp_conns.iter().filter_map(|conn| Some((conn.trace_id.as_str(), limit(conn)?))).collect();
        let mut conns: HashMap<_, Vec<Use<'a>>> = HashMap::new();
        // A request that was tried several times had a stream before, too.
        let sent =
            trace.http_requests.iter().filter(|request| !request.accepted && request.attempts.is_empty());
        for request in sent {
            let conn = request.tcp_conn.as_str();
            let acquired = self.graph.times.at(request.conn_acquired_at);
            if let Some(acquired) = acquired.filter(|_| limits.contains_key(conn)) {
                conns.entry(conn).or_default().push(Use { acquired, request });
            }
        }
        let waits = conns.into_iter().flat_map(|(conn, mut uses)| {
            uses.sort_by_key(|one| one.acquired);
            self.waits_on(&uses, limits[conn])
        });
        waits.collect()
    }

    /// Returns the waits of the requests on a connection, which are sorted by when they got it.
    fn waits_on(&self, uses: &[Use<'a>], limit: u32) -> Vec<(&'a str, StreamWait<'a>)> {
        let at = |time| self.graph.times.at(time);
        let mut open: BinaryHeap<Reverse<(i64, usize)>> = BinaryHeap::new();
        let (mut waits, mut contradictions) = (vec![], 0);
        for (index, Use { acquired, request }) in uses.iter().enumerate() {
            while open.peek().is_some_and(|Reverse((until, _))| until <= acquired) {
                open.pop();
            }
            let (answered, end) = (at(request.resp_recv_at), at(request.end_at));
            let until = answered.or(end).unwrap_or(i64::MAX);
            if open.len() < limit as usize {
                open.push(Reverse((until, index)));
                continue;
            }
            let Some(first) = open.pop() else { continue };
            let Reverse((freed, holder)) = first;
            let opened_later = freed <= until && freed < i64::MAX && !request.seen_on_wire;
            let was_given_up = answered.is_none()
                && request.stream_id.is_none()
                && matches!(request.end_reason, Some(EndReason::Timeout | EndReason::Cancelled));
            if opened_later {
                open.push(Reverse((until, index)));
            } else {
                open.push(first);
            }
            if opened_later || was_given_up {
                let nanos = freed.min(until).saturating_sub(*acquired);
                let holder = uses[holder].request;
                waits.push((request.trace_id.as_str(), StreamWait { limit, nanos, holder }));
            } else if answered.is_some() || request.seen_on_wire {
                contradictions += 1;
            }
        }
        // A server may have lowered its limit later, of which the records have the last value only. A few requests may
        // also have been sent in another order than they got the connection.
        const MIN_FITTING: usize = 4;
        if contradictions * MIN_FITTING > waits.len() {
            waits.clear();
        }
        waits
    }
}

/// Returns how many streams the server allows at a time.
fn limit(conn: &TcpConnTrace) -> Option<u32> {
    conn.wire.as_ref()?.http2.as_ref()?.server_settings.max_concurrent_streams.filter(|limit| *limit > 0)
}
