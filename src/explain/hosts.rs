//! [`HostIndex`]: what a trace has about each server, beyond the request that is explained.

use crate::{
    graph::TraceGraph,
    record::{Failure, HttpReqTrace, TcpConnTrace, TlsTunnelTrace},
};
use std::{cell::OnceCell, collections::HashMap};

/// An index of connections, tunnels and requests by server. Each part is built when a rule first asks for it, in time
/// linear in the size of the trace apart from sorting.
pub(super) struct HostIndex<'a> {
    graph: &'a TraceGraph<'a>,
    tls: OnceCell<TlsHosts<'a>>,
    closed_conns: OnceCell<HashMap<&'a str, ClosedConns<'a>>>,
    uses: OnceCell<HashMap<&'a str, Uses<'a>>>,
    holders: OnceCell<HashMap<String, Holders<'a>>>,
}

/// The tunnels to servers.
#[derive(Default)]
pub(super) struct TlsHosts<'a> {
    by_name: HashMap<&'a str, TlsHost<'a>>,
    /// The first tunnel to each address, with a server name, that carries HTTP/2.
    http2: HashMap<TlsServer<'a>, &'a TlsTunnelTrace>,
    /// The first tunnel to each server name whose certificate is not yet valid.
    pub(super) not_yet_valid: Vec<&'a TlsTunnelTrace>,
}

/// A server name, and the address that was connected to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct TlsServer<'a> {
    name: &'a str,
    ip: &'a str,
    port: u16,
}

impl<'a> TlsServer<'a> {
    fn of(tunnel: &'a TlsTunnelTrace, conn: &'a TcpConnTrace) -> Self {
        TlsServer { name: &tunnel.server_name, ip: &conn.addr_tuple.dst_ip, port: conn.addr_tuple.dst_port }
    }
}

/// The tunnels to one server name.
#[derive(Default)]
pub(super) struct TlsHost<'a> {
    /// The first tunnel whose certificate was accepted.
    pub(super) accepted: Option<&'a TlsTunnelTrace>,
    /// The number of handshakes that resumed a session.
    pub(super) resumed: usize,
    /// When the other handshakes ended, in ascending order.
    full: Vec<(i64, &'a TlsTunnelTrace)>,
}

/// The connections of dials to one target that ended.
#[derive(Default)]
pub(super) struct ClosedConns<'a> {
    /// The number of connections that served several requests.
    pub(super) reused: usize,
    /// The connections that served one request, with the times at which that ended, in ascending order.
    single: Vec<(i64, &'a TcpConnTrace)>,
}

/// The requests that used a connection, by the times at which they ended, in ascending order.
#[derive(Default)]
struct Uses<'a>(Vec<(i64, &'a HttpReqTrace)>);

/// The requests to one server that had a connection, by the times at which they got it, in ascending order.
#[derive(Default)]
struct Holders<'a>(Vec<Holder<'a>>);

/// A request that had a connection, and the one that had its connection the longest among it and those before it.
struct Holder<'a> {
    begin: i64,
    end: i64,
    request: &'a HttpReqTrace,
    longest: usize,
}

impl<'a> HostIndex<'a> {
    pub(super) fn new(graph: &'a TraceGraph<'a>) -> Self {
        HostIndex {
            graph,
            tls: OnceCell::new(),
            closed_conns: OnceCell::new(),
            uses: OnceCell::new(),
            holders: OnceCell::new(),
        }
    }

    /// Returns what is known about all servers with TLS.
    pub(super) fn tls(&self) -> &TlsHosts<'a> {
        self.tls.get_or_init(|| TlsHosts::new(self.graph))
    }

    /// Returns the connections of dials to `target` that ended.
    pub(super) fn closed_conns(&self, target: &str) -> Option<&ClosedConns<'a>> {
        self.closed_conns.get_or_init(|| closed_conns(self.graph)).get(target)
    }

    /// Returns the last request on a connection that ended until `at`.
    pub(super) fn last_use(&self, conn: &TcpConnTrace, at: i64) -> Option<&'a HttpReqTrace> {
        let uses = self.uses.get_or_init(|| uses(self.graph)).get(conn.trace_id.as_str())?;
        let before = uses.0.partition_point(|(end, _)| *end <= at);
        uses.0[..before].last().map(|(_, request)| *request)
    }

    /// Returns a request to the same server that had a connection from `begin` until `end`.
    pub(super) fn holder(&self, request: &HttpReqTrace, begin: i64, end: i64) -> Option<&'a HttpReqTrace> {
        let holders = self.holders.get_or_init(|| holders(self.graph)).get(&server(request)?)?;
        let before = holders.0.partition_point(|holder| holder.begin <= begin);
        let holder = &holders.0[holders.0[..before].last()?.longest];
        (holder.end >= end).then_some(holder.request)
    }
}

impl<'a> TlsHosts<'a> {
    fn new(graph: &TraceGraph<'a>) -> Self {
        let mut hosts = TlsHosts::default();
        for tunnel in graph.trace.tls_tunnels.iter().filter(|tunnel| !tunnel.accepted) {
            let is_first_early = is_not_yet_valid(graph, tunnel)
                && !hosts.not_yet_valid.iter().any(|other| other.server_name == tunnel.server_name);
            if is_first_early && hosts.not_yet_valid.len() < MAX_EARLY {
                hosts.not_yet_valid.push(tunnel);
            }
            if let Some(conn) = graph.trace.tcp_conns.get(&tunnel.tcp_conn)
                && &*tunnel.negotiated_proto == "h2"
            {
                hosts.http2.entry(TlsServer::of(tunnel, conn)).or_insert(tunnel);
            }
            if tunnel.server_name.is_empty() || !tunnel.handshake_err.is_empty() || tunnel.cipher_suite == 0 {
                continue;
            }
            let host = hosts.by_name.entry(tunnel.server_name.as_str()).or_default();
            if host.accepted.is_none() && !tunnel.peer_certs.is_empty() {
                host.accepted = Some(tunnel);
            }
            match graph.times.at(tunnel.handshake_end_at) {
                _ if tunnel.did_resume => host.resumed += 1,
                Some(end) => host.full.push((end, tunnel)),
                None => {}
            }
        }
        hosts.by_name.values_mut().for_each(|host| host.full.sort_unstable_by_key(|(end, _)| *end));
        hosts
    }

    pub(super) fn of(&self, server_name: &str) -> Option<&TlsHost<'a>> {
        self.by_name.get(server_name)
    }

    /// Returns a tunnel that carries HTTP/2, to the server name of a tunnel and the address of its connection.
    pub(super) fn http2(&self, tunnel: &TlsTunnelTrace, conn: &TcpConnTrace) -> Option<&'a TlsTunnelTrace> {
        self.http2.get(&TlsServer::of(tunnel, conn)).copied()
    }
}

/// How many servers with certificates that are not yet valid are kept.
const MAX_EARLY: usize = 8;

impl<'a> TlsHost<'a> {
    /// Returns the handshakes without resumption that ended before `at`, in order.
    pub(super) fn full_before(&self, at: i64) -> &[(i64, &'a TlsTunnelTrace)] {
        &self.full[..self.full.partition_point(|(end, _)| *end < at)]
    }
}

impl<'a> ClosedConns<'a> {
    /// Returns the connections that served one request, which ended before `at`, in order.
    pub(super) fn single_before(&self, at: i64) -> &[(i64, &'a TcpConnTrace)] {
        &self.single[..self.single.partition_point(|(end, _)| *end < at)]
    }
}

/// Returns `true` if the validity of the peer's certificate begins after the handshake.
pub(super) fn is_not_yet_valid(graph: &TraceGraph<'_>, tunnel: &TlsTunnelTrace) -> bool {
    let Some(certificate) = tunnel.peer_certs.first() else { return false };
    let times = graph.times.at(certificate.not_before).zip(graph.times.at(tunnel.handshake_begin_at));
    tunnel.failure == Some(Failure::SslInvalidCertificate) && times.is_some_and(|(begin, seen)| begin > seen)
}

fn closed_conns<'a>(graph: &TraceGraph<'a>) -> HashMap<&'a str, ClosedConns<'a>> {
    let trace = graph.trace;
    let uses = uses(graph);
    let mut targets: HashMap<&str, ClosedConns<'_>> = HashMap::new();
    let ended = trace.tcp_conns.iter().filter(|conn| conn.connected && conn.end_reason.is_some());
    for conn in ended.filter(|conn| !conn.from_resolver) {
        let Some(dial) = trace.dials.get(&conn.from_dial) else { continue };
        let closed = targets.entry(dial.dst_address.as_str()).or_default();
        match uses.get(conn.trace_id.as_str()).map(|uses| &uses.0[..]) {
            Some([(end, _)]) if graph.is_only_on(&conn.trace_id) => closed.single.push((*end, conn)),
            Some(_) => closed.reused += 1,
            None => {}
        }
    }
    targets.values_mut().for_each(|conns| conns.single.sort_unstable_by_key(|(end, _)| *end));
    targets
}

fn uses<'a>(graph: &TraceGraph<'a>) -> HashMap<&'a str, Uses<'a>> {
    let mut conns: HashMap<&str, Uses<'_>> = HashMap::new();
    for request in graph.trace.http_requests.iter().filter(|request| !request.tcp_conn.is_undefined()) {
        if let Some(end) = graph.times.at(request.end_at) {
            conns.entry(request.tcp_conn.as_str()).or_default().0.push((end, request));
        }
    }
    conns.values_mut().for_each(|uses| uses.0.sort_unstable_by_key(|(end, _)| *end));
    conns
}

fn holders<'a>(graph: &TraceGraph<'a>) -> HashMap<String, Holders<'a>> {
    let mut servers: HashMap<String, Holders<'_>> = HashMap::new();
    let requests = graph.trace.http_requests.iter().filter(|request| !request.accepted);
    for request in requests.filter(|request| !request.tcp_conn.is_undefined()) {
        let Some((begin, server)) = graph.times.at(request.conn_acquired_at).zip(server(request)) else {
            continue;
        };
        let end = graph.times.at(request.end_at).unwrap_or(i64::MAX);
        servers.entry(server).or_default().0.push(Holder { begin, end, request, longest: 0 });
    }
    for holders in servers.values_mut() {
        holders.0.sort_unstable_by_key(|holder| holder.begin);
        let mut longest = 0;
        for at in 0..holders.0.len() {
            if holders.0[at].end > holders.0[longest].end {
                longest = at;
            }
            holders.0[at].longest = longest;
        }
    }
    servers
}

/// Returns the scheme, host and port of a request's URL.
fn server(request: &HttpReqTrace) -> Option<String> {
    let url = request.req_url.parse::<http::Uri>().ok()?;
    Some(format!("{}://{}", url.scheme_str()?, url.authority()?))
}
