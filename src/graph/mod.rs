//! [`TraceGraph`]: what belongs to what in a trace.
//!
//! A trace is lists of records that refer to each other by identifier, in one direction. Whoever draws or explains a
//! trace follows them in both, and needs to know to which request a dial, a connection or a tunnel belongs.
//!
//! Traces of this crate link all records. In those of the Go package a failed request has no connection and a dial no
//! request, so that some links must be guessed from targets and times. Each dial, each request and each connection of a
//! dial has exactly one place, whatever the links of a trace are. The work is linear in the number of records, except
//! for sorting.

mod chains;
mod time_axis;

use std::collections::{HashMap, HashSet};

use http::Uri;

pub(crate) use self::time_axis::TimeAxis;
use crate::record::{
    DialTrace, DnsQueryTrace, HttpReqTrace, NetTrace, Record, TcpConnTrace, Text, TlsTunnelTrace, TraceId,
    TraceList, UdpConnTrace,
};

use crate::url_authority::url_authority;

type Groups<'a, T> = HashMap<&'a str, Vec<&'a T>>;

/// A trace, with the place of each of its records.
pub(crate) struct TraceGraph<'a> {
    pub(crate) trace: &'a NetTrace,
    pub(crate) times: TimeAxis,
    tcp_of_dial: Groups<'a, TcpConnTrace>,
    udp_of_dial: Groups<'a, UdpConnTrace>,
    queries_of_dial: Groups<'a, DnsQueryTrace>,
    tunnels_of_conn: Groups<'a, TlsTunnelTrace>,
    users: HashMap<&'a str, ConnUsers>,
    /// The CONNECT requests that are drawn as part of their connection.
    connects_of_conn: Groups<'a, HttpReqTrace>,
    /// The same requests, by memory address, since several may have the same identifier.
    connects: HashSet<*const HttpReqTrace>,
    /// The indexes of the requests that were made while an accepted request was answered, by the index of that one.
    made_for: HashMap<usize, Vec<usize>>,
    proxy_tunnels: HashSet<&'a str>,
    /// The rows that are drawn with each request, by the index of the request.
    placements: HashMap<usize, Placement<'a>>,
    /// The dials and connections that belong to no request.
    pub(crate) unattributed: Vec<ConnSource<'a>>,
    /// The tunnels that belong to no request and no drawn connection.
    pub(crate) unattributed_tunnels: Vec<&'a TlsTunnelTrace>,
    with_messages: HashSet<&'a str>,
}

/// Where a connection comes from: its dial, or the connection itself if its dial is not in the trace.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ConnSource<'a> {
    Dial(&'a DialTrace),
    Conn(&'a TcpConnTrace),
}

impl<'a> ConnSource<'a> {
    /// Returns the dial, if it is in the trace.
    #[cfg(feature = "explain")]
    pub(crate) fn dial(&self) -> Option<&'a DialTrace> {
        match *self {
            ConnSource::Dial(dial) => Some(dial),
            ConnSource::Conn(_) => None,
        }
    }
}

impl ConnSource<'_> {
    pub(crate) fn is_established(&self) -> bool {
        match self {
            ConnSource::Dial(dial) => !dial.established_conn.is_undefined(),
            ConnSource::Conn(conn) => conn.connected,
        }
    }

    /// Returns `true` if no request is known to have caused it.
    pub(crate) fn is_unattributed(&self) -> bool {
        match self {
            ConnSource::Dial(dial) => dial.triggered_by.is_undefined(),
            ConnSource::Conn(_) => true,
        }
    }

    pub(crate) fn has_made(&self, conn: &TcpConnTrace) -> bool {
        match self {
            ConnSource::Dial(dial) => !dial.trace_id.is_undefined() && dial.trace_id == conn.from_dial,
            ConnSource::Conn(own) => std::ptr::eq(*own, conn),
        }
    }
}

/// The dials, connections and tunnels that are drawn with a request.
#[derive(Default)]
struct Placement<'a> {
    /// The dials and connections that the request caused.
    own: Vec<ConnSource<'a>>,
    /// The dials that made the request's connection but were not caused by it.
    earlier: Vec<ConnSource<'a>>,
    /// The request's tunnels over a connection that is not in the trace.
    tunnels: Vec<&'a TlsTunnelTrace>,
}

/// The requests that refer to a connection.
#[derive(Default)]
struct ConnUsers {
    count: usize,
    /// When the first request that the connection can be drawn with was sent, and its index.
    first: Option<(i64, usize)>,
}

impl<'a> TraceGraph<'a> {
    pub(crate) fn new(trace: &'a NetTrace) -> Self {
        let times = TimeAxis::new(trace);
        let mut graph = TraceGraph {
            trace,
            times,
            tcp_of_dial: group(&trace.tcp_conns, |conn| conn.from_dial.as_str()),
            udp_of_dial: group(&trace.udp_conns, |conn| conn.from_dial.as_str()),
            queries_of_dial: group(&trace.dns_queries, |query| query.from_dial.as_str()),
            tunnels_of_conn: group(&trace.tls_tunnels, |tunnel| tunnel.tcp_conn.as_str()),
            users: HashMap::new(),
            connects_of_conn: HashMap::new(),
            connects: HashSet::new(),
            made_for: HashMap::new(),
            proxy_tunnels: trace.http_requests.iter().map(|r| r.proxy_tls_tunnel.as_str()).collect(),
            placements: HashMap::new(),
            unattributed: Vec::new(),
            unattributed_tunnels: Vec::new(),
            with_messages: trace.dns_queries.iter().map(|query| query.connection.as_str()).collect(),
        };
        graph.count_users();
        graph.claim_connects();
        graph.find_made_for();
        graph.find_first_users();
        graph.claim_dials();
        graph.claim_conns();
        graph.claim_tunnels();
        graph
    }

    /// Returns the TCP connections of a dial, established or not, to the destination or to a nameserver.
    pub(crate) fn tcp_of(&self, dial: &DialTrace) -> &[&'a TcpConnTrace] {
        self.of_dial(&self.tcp_of_dial, dial)
    }

    pub(crate) fn udp_of(&self, dial: &DialTrace) -> &[&'a UdpConnTrace] {
        self.of_dial(&self.udp_of_dial, dial)
    }

    pub(crate) fn queries_of(&self, dial: &DialTrace) -> &[&'a DnsQueryTrace] {
        self.of_dial(&self.queries_of_dial, dial)
    }

    pub(crate) fn tunnels_of(&self, conn: &TcpConnTrace) -> &[&'a TlsTunnelTrace] {
        if is_first(&self.trace.tcp_conns, conn) { of(&self.tunnels_of_conn, &conn.trace_id) } else { &[] }
    }

    /// Returns the CONNECT requests that are drawn as part of a connection.
    pub(crate) fn connects_of(&self, conn: &TcpConnTrace) -> &[&'a HttpReqTrace] {
        if is_first(&self.trace.tcp_conns, conn) { of(&self.connects_of_conn, &conn.trace_id) } else { &[] }
    }

    /// Returns the last tunnel over the connection with this identifier.
    pub(crate) fn last_tunnel_of(&self, conn: &TraceId) -> Option<&'a TlsTunnelTrace> {
        of(&self.tunnels_of_conn, conn).last().copied()
    }

    /// Returns `true` if the connection served a single request.
    pub(crate) fn is_only_on(&self, conn: &TraceId) -> bool {
        self.users.get(conn.as_str()).is_some_and(|users| users.count == 1)
    }

    /// Returns `true` if the request is a CONNECT that is drawn as part of its connection.
    pub(crate) fn is_connect(&self, request: &HttpReqTrace) -> bool {
        self.connects.contains(&std::ptr::from_ref(request))
    }

    /// Returns the indexes of the requests that were made while this one, an accepted one, was answered.
    pub(crate) fn made_for(&self, request: usize) -> &[usize] {
        self.made_for.get(&request).map_or(&[], Vec::as_slice)
    }

    /// Returns the index of the accepted request that was being answered when the request with this index was made.
    pub(crate) fn served_by(&self, request: usize) -> Option<usize> {
        let (requests, request) = (&self.trace.http_requests, &self.trace.http_requests[request]);
        if request.accepted || request.triggered_by.is_undefined() || self.is_connect(request) {
            return None;
        }
        requests.position(request.triggered_by.as_str()).filter(|served| requests[*served].accepted)
    }

    /// Returns `true` if a tunnel ends at a proxy.
    pub(crate) fn is_to_proxy(&self, tunnel: &TlsTunnelTrace) -> bool {
        self.proxy_tunnels.contains(tunnel.trace_id.as_str())
    }

    /// Returns the dials and connections that the request with this index caused.
    pub(crate) fn own_sources(&self, request: usize) -> &[ConnSource<'a>] {
        self.placements.get(&request).map_or(&[], |placement| &placement.own)
    }

    /// Returns the dials and connections that made the connection of a request, which is the first to use it but did
    /// not cause them.
    pub(crate) fn earlier_sources(&self, request: usize) -> &[ConnSource<'a>] {
        self.placements.get(&request).map_or(&[], |placement| &placement.earlier)
    }

    /// Returns the tunnels of a request whose connection is not in the trace.
    pub(crate) fn tunnels_without_conn(&self, request: usize) -> &[&'a TlsTunnelTrace] {
        self.placements.get(&request).map_or(&[], |placement| &placement.tunnels)
    }

    /// Returns `true` if the DNS messages of a connection are in the trace.
    pub(crate) fn has_messages(&self, conn: &str) -> bool {
        self.with_messages.contains(conn)
    }

    /// Returns the records that refer to a dial. If several dials have the same identifier, they belong to the first.
    fn of_dial<'g, T>(&self, groups: &'g Groups<'a, T>, dial: &DialTrace) -> &'g [&'a T] {
        if is_first(&self.trace.dials, dial) { of(groups, &dial.trace_id) } else { &[] }
    }

    /// Returns the connection with this identifier if its tunnels are drawn with it.
    fn drawn_conn(&self, id: &TraceId) -> Option<&'a TcpConnTrace> {
        self.trace.tcp_conns.get(id).filter(|conn| !conn.from_resolver)
    }

    /// Returns `true` if connections can be drawn with a request. An accepted request used a connection that existed
    /// before, which has a block of its own.
    fn can_have_placement(&self, request: &HttpReqTrace) -> bool {
        !request.accepted && !self.is_connect(request)
    }

    fn count_users(&mut self) {
        for request in self.trace.http_requests.iter().filter(|request| !request.tcp_conn.is_undefined()) {
            self.users.entry(request.tcp_conn.as_str()).or_default().count += 1;
        }
    }

    /// Finds each CONNECT that is drawn as part of its connection: one that another request triggered, or one that no
    /// request triggered and that is the only one on its connection.
    fn claim_connects(&mut self) {
        let trace = self.trace;
        for request in trace.http_requests.iter().filter(|request| request.req_method == "CONNECT") {
            let Some(conn) = self.drawn_conn(&request.tcp_conn) else { continue };
            let is_unasked =
                || trace.dials.get(&conn.from_dial).is_some_and(|d| d.triggered_by.is_undefined());
            let is_part = match request.triggered_by.is_undefined() {
                true => self.is_only_on(&request.tcp_conn) && is_unasked(),
                false => trace.http_requests.get(&*request.triggered_by).is_some(),
            };
            if is_part && !request.network_proxy.is_empty() {
                self.connects.insert(request);
                self.connects_of_conn.entry(request.tcp_conn.as_str()).or_default().push(request);
            }
        }
    }

    fn find_made_for(&mut self) {
        for at in 0..self.trace.http_requests.len() {
            if let Some(served) = self.served_by(at) {
                self.made_for.entry(served).or_default().push(at);
            }
        }
    }

    fn find_first_users(&mut self) {
        for (at, request) in self.trace.http_requests.iter().enumerate() {
            if request.tcp_conn.is_undefined() || !self.can_have_placement(request) {
                continue;
            }
            let user = (self.times.at(request.req_sent_at).unwrap_or(i64::MAX), at);
            let first = &mut self.users.entry(request.tcp_conn.as_str()).or_default().first;
            *first = Some(first.map_or(user, |first| first.min(user)));
        }
    }

    /// Assigns every dial to the request that caused it, or else to the first that used its connection.
    fn claim_dials(&mut self) {
        let trace = self.trace;
        let requests = || trace.http_requests.iter().enumerate().filter(|(_, r)| self.can_have_placement(r));
        let by_id: HashMap<&str, usize> =
            requests().rev().map(|(at, request)| (request.trace_id.as_str(), at)).collect();
        let mut waiting: HashMap<String, Vec<(i64, usize)>> = HashMap::new();
        for (at, request) in requests().filter(|(_, request)| request.tcp_conn.is_undefined()) {
            let begin = self.times.at(request.req_sent_at).unwrap_or(i64::MIN);
            waiting.entry(target(request)).or_default().push((begin, at));
        }
        waiting.values_mut().for_each(|requests| requests.sort_unstable());
        for dial in trace.dials.iter() {
            let is_named = !dial.triggered_by.is_undefined();
            let cause = match by_id.get(dial.triggered_by.as_str()).filter(|_| is_named) {
                Some(at) => Some(*at),
                None if is_named => None,
                None => self.first_user_waited(dial).or_else(|| self.waited_for(dial, &waiting)),
            };
            match (cause, self.first_user(dial)) {
                (Some(at), _) => self.placements.entry(at).or_default().own.push(ConnSource::Dial(dial)),
                (None, Some((_, at))) => {
                    self.placements.entry(at).or_default().earlier.push(ConnSource::Dial(dial));
                }
                (None, None) => self.unattributed.push(ConnSource::Dial(dial)),
            }
        }
    }

    /// Returns when the first request on a dial's connection was sent, and its index.
    fn first_user(&self, dial: &DialTrace) -> Option<(i64, usize)> {
        let conns = self.tcp_of(dial).iter().filter(|conn| !conn.from_resolver);
        conns.filter_map(|conn| self.users.get(conn.trace_id.as_str())?.first).min()
    }

    /// Returns the first request on a dial's connection, unless it was sent after the dial began.
    fn first_user_waited(&self, dial: &DialTrace) -> Option<usize> {
        let (sent, at) = self.first_user(dial)?;
        (sent <= self.times.at(dial.dial_begin_at)?).then_some(at)
    }

    /// Guesses the request that caused a dial: the latest request without connection and dial that was sent to the same
    /// target before the dial began.
    fn waited_for(&self, dial: &DialTrace, waiting: &HashMap<String, Vec<(i64, usize)>>) -> Option<usize> {
        /// The maximum number of requests that are examined.
        const MAX_CANDIDATES: usize = 16;
        let begin = self.times.at(dial.dial_begin_at)?;
        let requests = waiting.get(dial.dst_address.as_str())?;
        let before = requests.partition_point(|(sent, _)| *sent <= begin);
        let latest = requests[..before].iter().rev().take(MAX_CANDIDATES);
        latest.map(|(_, at)| *at).find(|at| !self.placements.contains_key(at))
    }

    /// Assigns every connection whose dial is not in the trace to the first request that used it.
    fn claim_conns(&mut self) {
        let trace = self.trace;
        let is_drawn_with_messages =
            |conn: &TcpConnTrace| conn.from_resolver && self.with_messages.contains(conn.trace_id.as_str());
        let without_dial = trace.tcp_conns.iter().filter(|conn| trace.dials.get(&conn.from_dial).is_none());
        let conns: Vec<_> = without_dial.filter(|conn| !is_drawn_with_messages(conn)).collect();
        for conn in conns {
            let user = self.users.get(conn.trace_id.as_str()).and_then(|users| users.first);
            match user.filter(|_| !conn.accepted && !conn.from_resolver) {
                Some((sent, at)) => {
                    let placement = self.placements.entry(at).or_default();
                    let is_own = self.times.at(conn.handshake_begin_at) >= Some(sent);
                    let list = if is_own { &mut placement.own } else { &mut placement.earlier };
                    list.push(ConnSource::Conn(conn));
                }
                None => self.unattributed.push(ConnSource::Conn(conn)),
            }
        }
    }

    /// Assigns every tunnel over a connection that is not drawn to the first request that refers to it. Failed tunnels
    /// of the Go package have no connection.
    fn claim_tunnels(&mut self) {
        let trace = self.trace;
        let mut claimed: HashMap<*const TlsTunnelTrace, usize> = HashMap::new();
        for (at, request) in
            trace.http_requests.iter().enumerate().filter(|(_, r)| self.can_have_placement(r))
        {
            for id in [&*request.proxy_tls_tunnel, &request.tls_tunnel] {
                if let Some(tunnel) = trace.tls_tunnels.get(id) {
                    claimed.entry(tunnel).or_insert(at);
                }
            }
        }
        for tunnel in trace.tls_tunnels.iter() {
            if self.drawn_conn(&tunnel.tcp_conn).is_some() {
                continue;
            }
            match claimed.get(&std::ptr::from_ref(tunnel)) {
                Some(at) => self.placements.entry(*at).or_default().tunnels.push(tunnel),
                None => self.unattributed_tunnels.push(tunnel),
            }
        }
    }
}

/// Returns the host and port of a request's URL, with `served` before it if this program answered the request.
pub(crate) fn host_of(request: &HttpReqTrace) -> Text {
    let host = url_authority(&request.req_url);
    if request.accepted { format!("served {host}").into() } else { host.into() }
}

fn group<'a, T>(records: &'a [T], key: impl Fn(&'a T) -> &'a str) -> Groups<'a, T> {
    let mut groups: Groups<'a, T> = HashMap::new();
    for record in records {
        groups.entry(key(record)).or_default().push(record);
    }
    groups
}

fn of<'g, 'a, T>(groups: &'g Groups<'a, T>, id: &TraceId) -> &'g [&'a T] {
    // The undefined identifier refers to nothing.
    if id.is_undefined() { &[] } else { groups.get(id.as_str()).map_or(&[], Vec::as_slice) }
}

/// Returns `true` if it is the first record with its identifier. Others cannot be referred to.
fn is_first<T: Record>(records: &TraceList<T>, record: &T) -> bool {
    records.get(record.trace_id()).is_some_and(|first| std::ptr::eq(first, record))
}

/// Returns the address that must be dialled for a request, as `host:port`.
fn target(request: &HttpReqTrace) -> String {
    let url = if request.network_proxy.is_empty() { &request.req_url } else { &request.network_proxy };
    let Ok(uri) = url.parse::<Uri>() else { return String::new() };
    let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
        Some("https") => 443,
        Some("socks5" | "socks5h") => 1080,
        _ => 80,
    });
    format!("{}:{port}", uri.host().unwrap_or_default())
}

#[cfg(test)]
mod tests;
