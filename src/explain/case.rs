//! [`Case`]: a request with everything that belongs to it, as the rules see it.

use super::{
    dns_exchange::{Exchange, Server},
    finding::Outcome,
    history::History,
    host_name::{host_of, host_of_url},
    hosts::HostIndex,
    late_reads::LateReads,
    stream_queues::StreamQueues,
    usual::UsualTimes,
};
use crate::{
    graph::{ConnSource, TraceGraph},
    record::{
        DialTrace, EndReason, Failure, HttpReqTrace, NetTrace, Record, TcpConnTrace, TcpInfo, TcpInfoEvent,
        Text, Timestamp, TlsTunnelTrace, TraceId,
    },
};

/// A request, or a dial or connection that belongs to none, with the records that belong to it.
///
/// A rule looks at a bounded number of records, so that all cases of a trace take time linear in its size: a connection
/// may have served thousands of requests.
pub(super) struct Case<'a> {
    pub(super) graph: &'a TraceGraph<'a>,
    /// How long the phases of requests usually take in this trace.
    pub(super) usual: &'a UsualTimes<'a>,
    /// An index of everything that the trace has about each server.
    pub(super) hosts: &'a HostIndex<'a>,
    /// The outcomes of other requests of the trace, to compare with.
    pub(super) history: &'a History<'a>,
    /// The late reads of the whole trace.
    pub(super) late_reads: &'a LateReads<'a>,
    /// The requests that waited for a stream of HTTP/2.
    pub(super) streams: &'a StreamQueues<'a>,
    pub(super) request: Option<&'a HttpReqTrace>,
    /// The dials that the request caused or waited for.
    pub(super) dials: Vec<&'a DialTrace>,
    /// The attempts of those dials to connect to their destination.
    pub(super) attempts: Vec<&'a TcpConnTrace>,
    /// The connection that carried the request, or that was dialed.
    pub(super) conn: Option<&'a TcpConnTrace>,
    /// The tunnels over the connections of the case, that to a proxy included.
    pub(super) tunnels: Vec<&'a TlsTunnelTrace>,
    pub(super) outcome: Outcome,
}

/// Indexes over the whole trace, which the rules look things up in.
pub(super) struct Indexes<'a> {
    usual: UsualTimes<'a>,
    hosts: HostIndex<'a>,
    history: History<'a>,
    late_reads: LateReads<'a>,
    streams: StreamQueues<'a>,
}

impl<'a> Indexes<'a> {
    pub(super) fn new(graph: &'a TraceGraph<'a>) -> Self {
        Indexes {
            usual: UsualTimes::new(graph),
            hosts: HostIndex::new(graph),
            history: History::new(graph),
            late_reads: LateReads::new(graph),
            streams: StreamQueues::new(graph),
        }
    }
}

/// How many attempts, queries and tunnels of a case are looked at.
pub(super) const MAX_RELATED: usize = 64;

impl<'a> Case<'a> {
    /// Returns all cases of a trace.
    pub(super) fn all(graph: &'a TraceGraph<'a>, indexes: &'a Indexes<'a>) -> impl Iterator<Item = Self> {
        let requests = 0..graph.trace.http_requests.len();
        let requests = requests.filter(|at| !graph.is_connect(&graph.trace.http_requests[*at]));
        let others = graph.unattributed.iter();
        requests
            .map(move |at| Self::of_request(graph, indexes, at))
            .chain(others.map(move |source| Self::of_source(graph, indexes, *source)))
    }

    fn of_request(graph: &'a TraceGraph<'a>, indexes: &'a Indexes<'a>, at: usize) -> Self {
        let trace = graph.trace;
        let request = &trace.http_requests[at];
        let mut case = Self::new(graph, indexes, graph.own_sources(at));
        case.request = Some(request);
        case.conn = trace.tcp_conns.get(&request.tcp_conn).or(case.conn);
        if let Some(conn) = case.conn.filter(|conn| case.attempts.is_empty() && !conn.connected) {
            case.attempts.push(conn);
        }
        let linked = [&*request.proxy_tls_tunnel, &request.tls_tunnel];
        for tunnel in linked.into_iter().filter_map(|id| trace.tls_tunnels.get(id)) {
            if !case.tunnels.iter().any(|known| std::ptr::eq(*known, tunnel)) {
                case.tunnels.push(tunnel);
            }
        }
        case.outcome = outcome(request.end_reason.as_ref(), request.failure.as_ref(), &request.req_error);
        if request.accepted && request.end_reason == Some(EndReason::PeerClosed) {
            case.outcome = Outcome::GivenUp; // the client went away
        }
        if case.outcome == Outcome::GivenUp && request.resp_status_code != 0 {
            case.outcome = Outcome::Succeeded; // the program had its answer, and did not want all of it
        }
        let has_dialed_conn =
            case.conn.is_none_or(|conn| case.attempts.iter().any(|own| std::ptr::eq(*own, conn)));
        if case.outcome == Outcome::Succeeded && !has_dialed_conn {
            (case.dials, case.attempts) = (vec![], vec![]); // it did not have to wait for them
        }
        if case.outcome == Outcome::Running && !request.resp_recv_at.is_undefined() && graph.times.coarse {
            case.outcome = Outcome::Succeeded; // the Go package does not record how a request ended
        }
        case
    }

    fn of_source(graph: &'a TraceGraph<'a>, indexes: &'a Indexes<'a>, source: ConnSource<'a>) -> Self {
        let mut case = Self::new(graph, indexes, &[source]);
        case.outcome = match source {
            ConnSource::Dial(dial) => {
                outcome(dial.end_reason.as_ref(), dial.failure.as_ref(), &dial.dial_err)
            }
            ConnSource::Conn(conn) => {
                let error = if conn.connected { &conn.conn_err } else { &conn.handshake_err };
                outcome(conn.end_reason.as_ref(), conn.failure.as_ref(), error)
            }
        };
        // The connection was made, but not what it was made for.
        let failed = case.tunnels.iter().find(|tunnel| !tunnel.handshake_err.is_empty());
        if let Some(tunnel) = failed.filter(|_| case.outcome == Outcome::Succeeded) {
            let error = &tunnel.handshake_err;
            case.outcome = outcome(tunnel.end_reason.as_ref(), tunnel.failure.as_ref(), error);
        }
        case
    }

    fn new(graph: &'a TraceGraph<'a>, indexes: &'a Indexes<'a>, sources: &[ConnSource<'a>]) -> Self {
        let (mut dials, mut attempts) = (Vec::new(), Vec::new());
        for source in sources.iter().take(MAX_RELATED) {
            match source {
                ConnSource::Dial(dial) => {
                    dials.push(*dial);
                    let of_dial = graph.tcp_of(dial).iter().filter(|conn| !conn.from_resolver);
                    attempts.extend(of_dial.take(MAX_RELATED));
                }
                ConnSource::Conn(conn) => attempts.push(*conn),
            }
        }
        let conn = attempts.iter().rev().find(|conn| conn.connected).copied();
        let over = attempts.iter().filter(|conn| conn.connected);
        let tunnels =
            over.flat_map(|conn| graph.tunnels_of(conn).iter().copied()).take(MAX_RELATED).collect();
        let outcome = Outcome::Succeeded;
        let Indexes { usual, hosts, history, late_reads, streams } = indexes;
        Case {
            graph,
            usual,
            hosts,
            history,
            late_reads,
            streams,
            request: None,
            dials,
            attempts,
            conn,
            tunnels,
            outcome,
        }
    }

    pub(super) fn trace(&self) -> &'a NetTrace {
        self.graph.trace
    }

    /// Returns the queries to nameservers that the dials of the case waited for.
    pub(super) fn exchanges(&self) -> impl Iterator<Item = Exchange<'a>> {
        let queries = self.dials.iter().flat_map(|dial| self.graph.queries_of(dial)).take(MAX_RELATED);
        queries.filter_map(|query| Exchange::of(self.trace(), query))
    }

    /// Returns the connections over TCP that the dials of the case tried to make to nameservers.
    pub(super) fn conns_to_nameservers(&self) -> impl Iterator<Item = &'a TcpConnTrace> {
        let conns = self.dials.iter().flat_map(|dial| self.graph.tcp_of(dial)).take(MAX_RELATED);
        conns.copied().filter(|conn| conn.from_resolver)
    }

    /// Returns `true` if the subject ended because a time limit ran out or the program gave it up.
    pub(super) fn was_cut_short(&self) -> bool {
        matches!(self.outcome, Outcome::TimedOut | Outcome::GivenUp)
    }

    /// Returns `true` if a time limit ended the subject, and at least half of its time was this.
    pub(super) fn is_most_of_limit(&self, nanos: i64) -> bool {
        self.outcome == Outcome::TimedOut && nanos >= self.duration() / 2
    }

    /// Returns `true` if the subject did not do what it was to do.
    pub(super) fn has_failed(&self) -> bool {
        !matches!(self.outcome, Outcome::Succeeded | Outcome::Running)
    }

    /// Returns a time in nanoseconds since the trace began.
    pub(super) fn at(&self, time: Timestamp) -> Option<i64> {
        self.graph.times.at(time)
    }

    /// Returns the nanoseconds from one time to another; zero if either is unknown.
    pub(super) fn between(&self, begin: Timestamp, end: Timestamp) -> i64 {
        self.at(begin).zip(self.at(end)).map_or(0, |(begin, end)| end.saturating_sub(begin).max(0))
    }

    /// Returns how long the subject took in nanoseconds.
    pub(super) fn duration(&self) -> i64 {
        match (self.request, self.dials.first()) {
            (Some(request), _) => self.between(request.req_sent_at, request.end_at),
            (None, Some(dial)) => self.between(dial.dial_begin_at, dial.dial_end_at),
            (None, None) => 0,
        }
    }

    /// Returns what the kernel knew about the connection of a request when the request or the connection ended, or, of
    /// one that still runs, when it made no progress.
    pub(super) fn tcp_info_at_end(
        &self,
        request: &HttpReqTrace,
        conn: &'a TcpConnTrace,
    ) -> Option<&'a TcpInfo> {
        let (begin, end) = (self.at(request.req_sent_at), self.at(request.end_at));
        let stalled = || {
            let is_of_request = |info: &&TcpInfo| {
                info.event == TcpInfoEvent::Stalled
                    && self.at(info.at) >= begin
                    && (end.is_none() || self.at(info.at) <= end)
            };
            conn.tcp_info.iter().rfind(is_of_request)
        };
        let Some(end) = end else { return stalled() };
        /// It is read at once when a request fails. A later one is that of another request.
        const MAX_DELAY: i64 = 1_000_000_000;
        let in_time = |info: &TcpInfo| self.at(info.at).is_some_and(|at| at.saturating_sub(end) < MAX_DELAY);
        let at_end = conn.tcp_info.iter().filter(|info| in_time(info)).find(|info| match info.event {
            TcpInfoEvent::RequestFailed => self.at(info.at) >= Some(end),
            TcpInfoEvent::Closing => true,
            _ => false,
        });
        at_end.or_else(stalled)
    }

    /// Returns why the request, or else the dial or connection, failed.
    pub(super) fn failure(&self) -> Option<&'a Failure> {
        match (self.request, self.dials.first(), self.attempts.first()) {
            (Some(request), ..) => request.failure.as_ref(),
            (None, Some(dial), _) => dial.failure.as_ref(),
            (None, None, conn) => conn.and_then(|conn| conn.failure.as_ref()),
        }
    }

    /// Returns the host that was dialed, without its port, or else that of the URL.
    pub(super) fn host(&self) -> Text {
        match self.dials.first() {
            Some(dial) => host_of(&dial.dst_address).into(),
            None => self.origin(),
        }
    }

    /// Returns the host of the request's URL. It is another one than [`host`](Self::host) if there is a proxy.
    pub(super) fn origin(&self) -> Text {
        match self.request {
            Some(request) => host_of_url(&request.req_url),
            None => self.dials.first().map(|dial| host_of(&dial.dst_address).into()).unwrap_or_default(),
        }
    }

    /// Returns the identifier of the subject, and what it is.
    pub(super) fn subject(&self) -> (TraceId, Text) {
        match (self.request, self.dials.first(), self.attempts.first()) {
            (Some(request), ..) => {
                (request.trace_id.clone(), format!("{} {}", request.req_method, request.req_url).into())
            }
            (None, Some(dial), _) => (dial.trace_id.clone(), format!("dial {}", dial.dst_address).into()),
            (None, None, Some(conn)) => {
                (conn.trace_id().clone(), format!("connection {}", peer(conn)).into())
            }
            (None, None, None) => (TraceId::default(), Text::EMPTY),
        }
    }
}

fn outcome(reason: Option<&EndReason>, failure: Option<&Failure>, error: &str) -> Outcome {
    match (reason, failure) {
        (Some(EndReason::Timeout), _) => Outcome::TimedOut,
        (Some(EndReason::Cancelled), _) => Outcome::GivenUp,
        (_, Some(_)) | (Some(EndReason::Failed), _) => Outcome::Failed,
        (None, None) if !error.is_empty() => Outcome::Failed,
        (None, None) => Outcome::Running,
        (Some(_), None) => Outcome::Succeeded,
    }
}

/// Returns the address of a connection's peer.
pub(super) fn peer(conn: &TcpConnTrace) -> String {
    if !conn.unix_path.is_empty() {
        return conn.unix_path.to_string();
    }
    address(&conn.addr_tuple.dst_ip, conn.addr_tuple.dst_port)
}

/// Returns the address of a nameserver.
pub(super) fn server((ip, port): Server<'_>) -> String {
    address(ip, port)
}

fn address(ip: &str, port: u16) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}
