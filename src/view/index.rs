//! What belongs to what.
//!
//! Our traces say it; those of the Go package, where a failed request refers to nothing and a dial to no
//! request, leave some of it to be found out.

use std::collections::{HashMap, HashSet};

use http::Uri;

use super::times::Times;
use crate::record::{
    DialTrace, DnsQueryTrace, HttpReqTrace, NetTrace, TcpConnTrace, TlsTunnelTrace, UdpConnTrace,
};

type Groups<'a, T> = HashMap<&'a str, Vec<&'a T>>;

/// A trace with the ways through it that its own identifiers do not give.
pub(super) struct Index<'a> {
    pub(super) trace: &'a NetTrace,
    pub(super) times: Times,
    tcp_of_dial: Groups<'a, TcpConnTrace>,
    udp_of_dial: Groups<'a, UdpConnTrace>,
    queries_of_dial: Groups<'a, DnsQueryTrace>,
    tunnels_of_conn: Groups<'a, TlsTunnelTrace>,
    requests_on_conn: Groups<'a, HttpReqTrace>,
    /// Each CONNECT that is drawn as a part of its connection.
    connects_of_conn: Groups<'a, HttpReqTrace>,
    connects: HashSet<&'a str>,
    proxy_tunnels: HashSet<&'a str>,
    /// By the index of the request.
    dials_of_request: HashMap<usize, Vec<&'a DialTrace>>,
    /// Dials that no request caused.
    pub(super) lone_dials: Vec<&'a DialTrace>,
    with_messages: HashSet<&'a str>,
}

impl<'a> Index<'a> {
    pub(super) fn of(trace: &'a NetTrace) -> Self {
        let times = Times::of(trace);
        let mut index = Index {
            trace,
            times,
            tcp_of_dial: group(&trace.tcp_conns, |conn| conn.from_dial.as_str()),
            udp_of_dial: group(&trace.udp_conns, |conn| conn.from_dial.as_str()),
            queries_of_dial: group(&trace.dns_queries, |query| query.from_dial.as_str()),
            tunnels_of_conn: group(&trace.tls_tunnels, |tunnel| tunnel.tcp_conn.as_str()),
            requests_on_conn: group(&trace.http_requests, |request| request.tcp_conn.as_str()),
            connects_of_conn: HashMap::new(),
            connects: HashSet::new(),
            proxy_tunnels: trace.http_requests.iter().map(|r| r.proxy_tls_tunnel.as_str()).collect(),
            dials_of_request: HashMap::new(),
            lone_dials: Vec::new(),
            with_messages: trace.dns_queries.iter().map(|query| query.connection.as_str()).collect(),
        };
        index.claim_connects();
        index.claim_dials();
        index
    }

    /// TCP connections that a dial made or tried to make, to the destination or to a nameserver.
    pub(super) fn tcp_of(&self, dial: &str) -> &[&'a TcpConnTrace] {
        of(&self.tcp_of_dial, dial)
    }

    pub(super) fn udp_of(&self, dial: &str) -> &[&'a UdpConnTrace] {
        of(&self.udp_of_dial, dial)
    }

    pub(super) fn queries_of(&self, dial: &str) -> &[&'a DnsQueryTrace] {
        of(&self.queries_of_dial, dial)
    }

    pub(super) fn tunnels_of(&self, conn: &str) -> &[&'a TlsTunnelTrace] {
        of(&self.tunnels_of_conn, conn)
    }

    pub(super) fn requests_on(&self, conn: &str) -> &[&'a HttpReqTrace] {
        of(&self.requests_on_conn, conn)
    }

    /// Requests to a proxy for the way that the connection then was.
    pub(super) fn connects_of(&self, conn: &str) -> &[&'a HttpReqTrace] {
        of(&self.connects_of_conn, conn)
    }

    /// Whether the request is drawn as a part of its connection, and not by itself.
    pub(super) fn is_connect(&self, request: &HttpReqTrace) -> bool {
        self.connects.contains(request.trace_id.as_str())
    }

    /// Whether a tunnel leads to a proxy, and no further.
    pub(super) fn is_to_proxy(&self, tunnel: &TlsTunnelTrace) -> bool {
        self.proxy_tunnels.contains(tunnel.trace_id.as_str())
    }

    /// The dials that a request caused, by the request's place in the trace.
    pub(super) fn dials_of(&self, request: usize) -> &[&'a DialTrace] {
        self.dials_of_request.get(&request).map_or(&[], Vec::as_slice)
    }

    /// Whether the DNS messages of a connection are in the trace.
    pub(super) fn has_messages(&self, conn: &str) -> bool {
        self.with_messages.contains(conn)
    }

    /// Finds each CONNECT that a request in the trace needed; or nobody did, and it is all that there was of HTTP on
    /// its connection.
    fn claim_connects(&mut self) {
        let trace = self.trace;
        for request in trace.http_requests.iter().filter(|request| request.req_method == "CONNECT") {
            let dial = || trace.dials.get(&trace.tcp_conns.get(&request.tcp_conn)?.from_dial);
            let is_alone = || self.requests_on(request.tcp_conn.as_str()).len() == 1;
            let is_part = match request.triggered_by.is_undefined() {
                true => is_alone() && dial().is_some_and(|dial| dial.triggered_by.is_undefined()),
                false => trace.http_requests.get(&request.triggered_by).is_some(),
            };
            if is_part && !request.network_proxy.is_empty() && !request.tcp_conn.is_undefined() {
                self.connects.insert(request.trace_id.as_str());
                self.connects_of_conn.entry(request.tcp_conn.as_str()).or_default().push(request);
            }
        }
    }

    /// Gives every dial to the request that caused it.
    fn claim_dials(&mut self) {
        let trace = self.trace;
        let places: HashMap<&str, usize> =
            trace.http_requests.iter().enumerate().map(|(at, r)| (r.trace_id.as_str(), at)).rev().collect();
        let mut waiting: HashMap<String, Vec<(i64, usize)>> = HashMap::new();
        for (at, request) in trace.http_requests.iter().enumerate().filter(|(_, r)| r.tcp_conn.is_undefined())
        {
            let begin = self.times.at(request.req_sent_at).unwrap_or(i64::MIN);
            waiting.entry(target(request)).or_default().push((begin, at));
        }
        waiting.values_mut().for_each(|requests| requests.sort_unstable());
        for dial in trace.dials.iter() {
            let named =
                places.get(dial.triggered_by.as_str()).copied().filter(|_| !dial.triggered_by.is_undefined());
            let claimed = named.or_else(|| self.first_user(dial, &places)).or_else(|| {
                let begin = self.times.at(dial.dial_begin_at)?;
                let requests = waiting.get(dial.dst_address.as_str())?;
                let before = requests.partition_point(|(sent, _)| *sent <= begin);
                let free = requests[..before].iter().rev().take(16);
                free.map(|(_, at)| *at).find(|at| !self.dials_of_request.contains_key(at))
            });
            match claimed.filter(|_| named.is_some() || dial.triggered_by.is_undefined()) {
                Some(at) => self.dials_of_request.entry(at).or_default().push(dial),
                None => self.lone_dials.push(dial),
            }
        }
    }

    /// The first request on the connection that a dial made, unless it was sent after the dial began.
    fn first_user(&self, dial: &DialTrace, places: &HashMap<&str, usize>) -> Option<usize> {
        let conns = self.tcp_of(dial.trace_id.as_str()).iter().filter(|conn| !conn.from_resolver);
        let users = conns.flat_map(|conn| self.requests_on(conn.trace_id.as_str()));
        let sent = |request: &&&HttpReqTrace| self.times.at(request.req_sent_at);
        let first = users.min_by_key(|request| sent(request).unwrap_or(i64::MAX))?;
        let caused = sent(&first)? <= self.times.at(dial.dial_begin_at)?;
        places.get(first.trace_id.as_str()).copied().filter(|_| caused)
    }

    /// The requests in chains of redirects, by their place in the trace. A chain begins with the request that
    /// no redirect led to; chains are in the order of these.
    pub(super) fn chains(&self) -> Vec<Vec<usize>> {
        let requests = &self.trace.http_requests;
        let places: HashMap<&str, usize> =
            requests.iter().enumerate().map(|(at, r)| (r.trace_id.as_str(), at)).rev().collect();
        let mut next = vec![None; requests.len()];
        let mut is_hop = vec![false; requests.len()];
        let mut redirects: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, request) in requests.iter().enumerate() {
            let named = places.get(request.prev_hop.as_str()).copied();
            let mut guessed = || {
                let candidates = redirects.get_mut(request.req_url.as_str())?;
                let before = |prev: &usize| requests[*prev].resp_recv_at <= request.req_sent_at;
                let found = candidates.iter().rposition(before)?;
                Some(candidates.remove(found))
            };
            let prev = if request.prev_hop.is_undefined() { guessed() } else { named };
            // Only a hop further back, so that no chain bites its own tail.
            if let Some(prev) = prev.filter(|prev| *prev < at && next[*prev].is_none()) {
                next[prev] = Some(at);
                is_hop[at] = true;
            }
            if let Some(url) = redirects_to(request) {
                redirects.entry(url).or_default().push(at);
            }
        }
        let heads = (0..requests.len()).filter(|at| !is_hop[*at] && !self.is_connect(&requests[*at]));
        heads.map(|head| std::iter::successors(Some(head), |at| next[*at]).collect()).collect()
    }
}

fn group<'a, T>(records: &'a [T], key: impl Fn(&'a T) -> &'a str) -> Groups<'a, T> {
    let mut groups: Groups<'a, T> = HashMap::new();
    for record in records {
        groups.entry(key(record)).or_default().push(record);
    }
    groups
}

fn of<'g, 'a, T>(groups: &'g Groups<'a, T>, id: &str) -> &'g [&'a T] {
    // What refers to nothing belongs to nothing.
    if id.is_empty() { &[] } else { groups.get(id).map_or(&[], Vec::as_slice) }
}

/// What has to be dialled for a request, as `host:port`.
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

/// Where a response redirects to, if its headers are in the trace.
fn redirects_to(request: &HttpReqTrace) -> Option<String> {
    if !matches!(request.resp_status_code, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = &request.resp_header.get("location")?.field_val;
    let location = location.split('#').next().unwrap_or_default();
    let url: Uri = request.req_url.parse().ok()?;
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(format!("{}://{}{location}", url.scheme_str()?, url.authority()?));
    }
    (!location.is_empty()).then(|| location.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{HttpHeaderField, Timestamp, TraceId};

    fn request(id: &str, url: &str, sent_ms: u64) -> HttpReqTrace {
        HttpReqTrace {
            trace_id: id.into(),
            req_url: url.into(),
            req_sent_at: Timestamp::relative(sent_ms * 1_000_000),
            ..HttpReqTrace::default()
        }
    }

    fn dial(id: &str, to: &str, begin_ms: u64) -> DialTrace {
        DialTrace {
            trace_id: id.into(),
            dst_address: to.into(),
            dial_begin_at: Timestamp::relative(begin_ms * 1_000_000),
            ..DialTrace::default()
        }
    }

    fn of(requests: Vec<HttpReqTrace>) -> NetTrace {
        NetTrace { http_requests: requests.into(), ..NetTrace::default() }
    }

    fn ids<'a>(dials: &[&'a DialTrace]) -> Vec<&'a str> {
        dials.iter().map(|dial| dial.trace_id.as_str()).collect()
    }

    #[test]
    fn dials_of_requests_that_failed_are_found_by_their_target() {
        let requests = vec![
            request("a", "http://web.test/", 0),
            request("b", "https://web.test/", 5),
            request("c", "http://web.test/x", 10),
        ];
        let dials = vec![
            dial("d1", "web.test:80", 1),
            dial("d2", "web.test:443", 4),
            dial("d3", "web.test:80", 11),
            DialTrace { triggered_by: "gone".into(), ..dial("d4", "web.test:443", 6) },
            DialTrace { triggered_by: "b".into(), ..dial("d5", "elsewhere:1", 6) },
        ];
        let trace = NetTrace { http_requests: requests.into(), dials: dials.into(), ..NetTrace::default() };
        let index = Index::of(&trace);
        assert_eq!(ids(index.dials_of(0)), ["d1"]);
        assert_eq!(ids(index.dials_of(1)), ["d5"]);
        assert_eq!(ids(index.dials_of(2)), ["d3"]);
        assert_eq!(ids(&index.lone_dials), ["d2", "d4"]);
    }

    #[test]
    fn a_dial_belongs_to_the_first_request_on_its_connection() {
        let on_conn =
            |id: &str, sent| HttpReqTrace { tcp_conn: "conn".into(), ..request(id, "http://h/", sent) };
        let mut trace = NetTrace {
            http_requests: vec![on_conn("later", 8), on_conn("first", 1)].into(),
            dials: vec![dial("d", "h:80", 2)].into(),
            ..NetTrace::default()
        };
        trace.tcp_conns =
            vec![TcpConnTrace { trace_id: "conn".into(), from_dial: "d".into(), ..TcpConnTrace::default() }]
                .into();
        let index = Index::of(&trace);
        assert_eq!((ids(index.dials_of(1)), index.dials_of(0).len()), (vec!["d"], 0));

        trace.dials.iter_mut().for_each(|dial| dial.dial_begin_at = Timestamp::relative(0));
        assert_eq!(Index::of(&trace).lone_dials.len(), 1, "it began before any request was sent");
    }

    #[test]
    fn chains_of_redirects() {
        let hop =
            |id: &str, prev: &str| HttpReqTrace { prev_hop: prev.into(), ..request(id, "http://h/", 0) };
        let trace = of(vec![
            hop("a", "self"),
            hop("x", ""),
            hop("b", "a"),
            hop("c", "b"),
            hop("d", "b"),
            hop("e", "e"),
        ]);
        assert_eq!(Index::of(&trace).chains(), [vec![0, 2, 3], vec![1], vec![4], vec![5]]);
        let trace = of(vec![hop("a", "b"), hop("b", "a")]);
        assert_eq!(Index::of(&trace).chains(), [vec![0, 1]]);
    }

    #[test]
    fn chains_without_links_are_known_by_the_location() {
        let redirect = |id: &str, url: &str, to: &str| HttpReqTrace {
            resp_status_code: 302,
            resp_header: vec![HttpHeaderField {
                field_name: "Location".into(),
                field_val: to.into(),
                field_val_len: 0,
            }]
            .into(),
            resp_recv_at: Timestamp::relative(0),
            ..request(id, url, 0)
        };
        let trace = of(vec![
            redirect("a", "http://h:81/x", "/y#z"),
            redirect("b", "http://h:81/y", "https://other/"),
            request("c", "http://h:81/y", 1),
            request("d", "https://other/", 1),
        ]);
        assert_eq!(Index::of(&trace).chains(), [vec![0, 1, 3], vec![2]]);
    }

    #[test]
    fn what_refers_to_nothing_belongs_to_nothing() {
        let trace = NetTrace {
            tcp_conns: vec![TcpConnTrace::default()].into(),
            dials: vec![DialTrace::default()].into(),
            ..NetTrace::default()
        };
        let index = Index::of(&trace);
        assert!(index.tcp_of(TraceId::UNDEFINED.as_str()).is_empty());
        assert_eq!(index.lone_dials.len(), 1);
    }
}
