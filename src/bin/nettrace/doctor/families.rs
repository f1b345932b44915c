//! Which address families a request can be made over.

use crate::args::RequestArgs;
use nettrace::{
    NetTrace, TraceSink,
    record::{DialTrace, DnsQueryTrace, DnsResType, Failure, HttpReqTrace, TcpConnTrace},
    resolve::{IpStrategy, StubResolver},
};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};
use url::Host;

/// The family of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// The family that the first request did not use.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OtherFamily {
    Usable(Family),
    /// It is not tried, for a reason that a person should know.
    NotTried(String),
    /// No other family is left: both were tried, or the host is an IP address.
    None,
}

impl Family {
    pub(super) fn of(ip: IpAddr) -> Self {
        if ip.to_canonical().is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub(super) fn strategy(self) -> IpStrategy {
        match self {
            Family::V4 => IpStrategy::Ipv4Only,
            Family::V6 => IpStrategy::Ipv6Only,
        }
    }

    fn other(self) -> Self {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }

    fn record_type(self) -> DnsResType {
        match self {
            Family::V4 => DnsResType::A,
            Family::V6 => DnsResType::Aaaa,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// Returns the family of the first hop's connection, or else those that it tried to connect over.
pub(super) fn tried(trace: &NetTrace) -> Vec<Family> {
    let Some(first) = trace.http_requests.first() else { return Vec::new() };
    let dial = dial_of(trace, first).map(|dial| &dial.trace_id);
    let is_attempt = |conn: &&TcpConnTrace| !conn.from_resolver && Some(&conn.from_dial) == dial;
    let attempts: Vec<_> = trace.tcp_conns.iter().filter(is_attempt).collect();
    let connected = attempts.iter().copied().find(|conn| conn.connected);
    let conns = match trace.tcp_conns.get(&first.tcp_conn).or(connected) {
        Some(used) => vec![used],
        None => attempts,
    };
    let mut families = Vec::new();
    for ip in conns.iter().filter_map(|conn| conn.addr_tuple.dst_ip.parse().ok()) {
        if !families.contains(&Family::of(ip)) {
            families.push(Family::of(ip));
        }
    }
    families
}

/// Returns the family that was not tried, if the host has addresses of it and they can be used. `trace` is that of the
/// request for which the host was looked up.
pub(super) async fn other(trace: &NetTrace, tried: &[Family], args: &RequestArgs) -> OtherFamily {
    let ([tried], Some(Host::Domain(host))) = (tried, args.url.host()) else { return OtherFamily::None };
    let family = tried.other();
    if args.source_ip.is_some_and(|source| Family::of(source) == *tried) {
        return OtherFamily::NotTried(format!(
            "{family}: not tried, because --source-ip is an {tried} address"
        ));
    }
    let port = args.url.port_or_known_default().unwrap_or_default();
    let known = addresses(trace, host).await;
    let of_family = known.into_iter().filter(|ip| Family::of(*ip) == family);
    match of_family.map(|ip| find_route(SocketAddr::new(ip, port))).reduce(Result::or) {
        None => OtherFamily::NotTried(format!("{family}: no address ({})", why_no_address(trace, family))),
        Some(Err(why)) => {
            OtherFamily::NotTried(format!("{family}: not tried, because this host has no route to {why}"))
        }
        Some(Ok(())) => OtherFamily::Usable(family),
    }
}

/// Returns the addresses that the lookup of the first hop has found.
async fn addresses(trace: &NetTrace, host: &str) -> Vec<IpAddr> {
    let queries: Vec<_> = queries(trace).collect();
    if queries.is_empty() {
        // Addresses that need no query, such as those of `localhost`, are the same when they are looked up again.
        let local = StubResolver::system(&TraceSink::disabled());
        return match local {
            Ok(local) => local.lookup(host).await.unwrap_or_default(),
            Err(_) => Vec::new(),
        };
    }
    let replies =
        queries.iter().flat_map(|query| &query.dns_reply_msgs).filter(|reply| reply.ignored.is_empty());
    let answers = replies.flat_map(|reply| &reply.answers);
    let addresses = answers.filter(|answer| matches!(answer.r#type, DnsResType::A | DnsResType::Aaaa));
    addresses.filter_map(|answer| answer.resolved_val.parse().ok()).collect()
}

fn why_no_address(trace: &NetTrace, family: Family) -> String {
    let kind = family.record_type();
    let is_of_kind = |query: &&DnsQueryTrace| {
        query.dns_query_msgs.iter().flat_map(|message| &message.questions).any(|asked| asked.r#type == kind)
    };
    match queries(trace).filter(is_of_kind).last().map(|query| &query.failure) {
        None => "the name is known without asking a nameserver".into(),
        Some(None | Some(Failure::DnsNoAnswer)) => format!("{} is empty", kind.as_str()),
        Some(Some(failure)) => format!("the query for {} failed: {failure}", kind.as_str()),
    }
}

/// Returns the DNS queries of the first hop.
fn queries(trace: &NetTrace) -> impl Iterator<Item = &DnsQueryTrace> {
    let dial = trace.http_requests.first().and_then(|first| dial_of(trace, first));
    trace.dns_queries.iter().filter(move |query| dial.is_some_and(|dial| dial.trace_id == query.from_dial))
}

/// Returns the dial that a request caused.
fn dial_of<'a>(trace: &'a NetTrace, request: &HttpReqTrace) -> Option<&'a DialTrace> {
    trace.dials.iter().find(|dial| dial.triggered_by == request.trace_id)
}

/// Checks that packets to an address have a route, without sending any. The error is the address with the reason.
fn find_route(address: SocketAddr) -> Result<(), String> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let connected = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address));
    connected.map_err(|error| format!("{} ({error})", address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(json: &str) -> NetTrace {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_family_of_the_first_connection_was_tried() {
        let used = trace(
            r#"{"httpRequests": [{"traceID": "r", "tcpConn": "b"}], "dials": [{"traceID": "d", "triggeredBy": "r"}],
            "tcpConns": [
              {"traceID": "ns", "fromDial": "d", "fromResolver": true, "addrTuple": {"dstIP": "192.0.2.53"}},
              {"traceID": "a", "fromDial": "d", "addrTuple": {"dstIP": "2001:db8::1"}},
              {"traceID": "b", "fromDial": "d", "connected": true, "addrTuple": {"dstIP": "192.0.2.1"}}]}"#,
        );
        assert_eq!(tried(&used), [Family::V4]);
        let mut failed = used;
        failed.tcp_conns.retain(|conn| !conn.connected);
        failed.http_requests.iter_mut().for_each(|request| request.tcp_conn = Default::default());
        assert_eq!(tried(&failed), [Family::V6]);
        assert_eq!(tried(&NetTrace::default()), []);
    }

    #[test]
    fn a_reason_is_given_for_a_family_without_address() {
        let why = |failure: &str| {
            let trace = trace(&format!(
                r#"{{"httpRequests": [{{"traceID": "r"}}], "dials": [{{"traceID": "d", "triggeredBy": "r"}}],
                "dnsQueries": [{{"traceID": "q", "fromDial": "d", "failure": "{failure}",
                  "dnsQueryMsgs": [{{"questions": [{{"name": "web.test.", "type": "AAAA"}}]}}]}}]}}"#
            ));
            why_no_address(&trace, Family::V6)
        };
        assert_eq!(why("dns_no_answer"), "AAAA is empty");
        assert_eq!(why("dns_servfail_error"), "the query for AAAA failed: dns_servfail_error");
        let known = why_no_address(&NetTrace::default(), Family::V4);
        assert_eq!(known, "the name is known without asking a nameserver");
    }

    #[test]
    fn the_own_host_has_a_route() {
        assert_eq!(find_route("127.0.0.1:9".parse().unwrap()), Ok(()));
    }
}
