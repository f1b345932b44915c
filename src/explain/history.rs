//! [`History`]: what is usual in a trace, to compare a request with.

use crate::{
    explain::dns_exchange::{Exchange, Server, State},
    graph::TraceGraph,
    record::{ConntrackEntry, DnsQueryTrace, EndReason, Failure, TcpConnTrace},
};
use std::{
    cell::OnceCell,
    collections::{HashMap, HashSet},
};

/// What other requests of a trace have met. Each part is put together when it is first asked for, in time linear in the
/// number of records, except for sorting.
pub(super) struct History<'a> {
    graph: &'a TraceGraph<'a>,
    replies: OnceCell<HashMap<Server<'a>, Replies<'a>>>,
    answers: OnceCell<HashMap<&'a str, Vec<&'a DnsQueryTrace>>>,
    peers: OnceCell<HashMap<(&'a str, u16), Handshakes<'a>>>,
    unanswered_ipv6: OnceCell<Option<usize>>,
    sources: OnceCell<HashSet<&'a str>>,
    tracked: OnceCell<Tracked<'a>>,
}

/// The replies of a nameserver.
struct Replies<'a> {
    first: Exchange<'a>,
    usual: Usual,
}

/// What the kernel's connection tracking knows about the connections of a trace.
struct Tracked<'a> {
    /// When an entry was last read.
    last: Option<i64>,
    /// The translations of addresses with which a connection has received something.
    worked: HashSet<Translation<'a>>,
}

/// The destination before NAT, and both addresses after it.
type Translation<'a> = [&'a str; 3];

fn translation(entry: &ConntrackEntry) -> Translation<'_> {
    [&entry.addr_orig.dst_ip, &entry.addr_reply.src_ip, &entry.addr_reply.dst_ip]
}

/// What took fewer nanoseconds is within what scheduling costs. More is compared with what is usual.
pub(super) const MIN_DELAY: i64 = 10_000_000;

/// How long something usually takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usual {
    /// How many times it was measured.
    pub(super) count: usize,
    /// Nine of ten times took at most so many nanoseconds.
    pub(super) nanos: i64,
}

/// The handshakes with an address.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Handshakes<'a> {
    /// How long those took that succeeded.
    pub(super) usual: Option<Usual>,
    /// How many began and were neither answered nor rejected, whatever ended them.
    pub(super) unanswered: usize,
    /// The connection that was made last.
    pub(super) newest: Option<&'a TcpConnTrace>,
}

impl Usual {
    fn of(mut times: Vec<i64>) -> Option<Self> {
        times.sort_unstable();
        let nanos = *times.get(times.len().checked_sub(1)? * 9 / 10)?;
        Some(Usual { count: times.len(), nanos })
    }

    /// Returns `true` if this time is far more than usual.
    pub(super) fn is_exceeded_by(self, nanos: i64) -> bool {
        nanos > self.nanos.saturating_mul(4)
    }
}

impl<'a> History<'a> {
    pub(super) fn new(graph: &'a TraceGraph<'a>) -> Self {
        History {
            graph,
            replies: OnceCell::new(),
            answers: OnceCell::new(),
            peers: OnceCell::new(),
            unanswered_ipv6: OnceCell::new(),
            sources: OnceCell::new(),
            tracked: OnceCell::new(),
        }
    }

    /// Returns how long a nameserver usually takes to reply.
    pub(super) fn reply_time(&self, server: Server<'_>) -> Option<Usual> {
        self.replies().get(&server).map(|replies| replies.usual)
    }

    /// Returns an exchange that a nameserver has answered.
    pub(super) fn reply_of(&self, server: Server<'_>) -> Option<Exchange<'a>> {
        self.replies().get(&server).map(|replies| replies.first)
    }

    fn replies(&self) -> &HashMap<Server<'a>, Replies<'a>> {
        self.replies.get_or_init(|| {
            let mut replies: HashMap<_, (Exchange<'a>, Vec<_>)> = HashMap::new();
            for exchange in self.exchanges().filter(|exchange| exchange.state == State::Answered) {
                let (_, times) = replies.entry(exchange.server).or_insert_with(|| (exchange, vec![]));
                times.extend(exchange.reply_time(&self.graph.times));
            }
            let replies = replies.into_iter();
            replies
                .filter_map(|(server, (first, times))| {
                    Some((server, Replies { first, usual: Usual::of(times)? }))
                })
                .collect()
        })
    }

    /// Returns the exchanges that were answered with addresses of a name, in the order of the trace.
    pub(super) fn answers(&self, name: &str) -> &[&'a DnsQueryTrace] {
        let answers = self.answers.get_or_init(|| {
            let mut answers: HashMap<_, Vec<_>> = HashMap::new();
            for exchange in self.exchanges().filter(|exchange| exchange.addresses().next().is_some()) {
                answers.entry(exchange.name).or_default().push(exchange.record);
            }
            answers
        });
        answers.get(name).map_or(&[], Vec::as_slice)
    }

    /// Returns the handshakes with the peer of a connection.
    pub(super) fn handshakes(&self, conn: &TcpConnTrace) -> Handshakes<'a> {
        self.peers()
            .get(&(conn.addr_tuple.dst_ip.as_str(), conn.addr_tuple.dst_port))
            .copied()
            .unwrap_or_default()
    }

    /// Returns how many IPv6 handshakes of the trace were not answered, if none was.
    pub(super) fn unanswered_ipv6(&self) -> Option<usize> {
        *self.unanswered_ipv6.get_or_init(|| {
            let peers = || self.peers().iter().filter(|((ip, _), _)| ip.contains(':'));
            let has_answer = peers().any(|(_, handshakes)| handshakes.usual.is_some());
            (!has_answer).then(|| peers().map(|(_, handshakes)| handshakes.unanswered).sum())
        })
    }

    /// Returns `true` if a connection of the trace has this address of this host.
    pub(super) fn has_source(&self, ip: &str) -> bool {
        let conns = || self.graph.trace.tcp_conns.iter();
        self.sources.get_or_init(|| conns().map(|conn| &*conn.addr_tuple.src_ip).collect()).contains(ip)
    }

    /// Returns when an entry of the kernel's connection tracking was last read.
    pub(super) fn last_conntrack(&self) -> Option<i64> {
        self.tracked().last
    }

    /// Returns `true` if a connection with the same translation of addresses has received something.
    pub(super) fn has_worked(&self, entry: &ConntrackEntry) -> bool {
        self.tracked().worked.contains(&translation(entry))
    }

    fn tracked(&self) -> &Tracked<'a> {
        self.tracked.get_or_init(|| {
            let trace = self.graph.trace;
            let of_udp = trace.udp_conns.iter().filter_map(|conn| conn.conntrack.as_deref());
            let of_tcp = trace.tcp_conns.iter().filter_map(|conn| conn.conntrack.as_deref());
            let last = of_tcp.chain(of_udp).filter_map(|entry| self.graph.times.at(entry.captured_at)).max();
            let with_data = trace.tcp_conns.iter().filter(|conn| conn.total_recv_bytes > 0);
            let worked = with_data.filter_map(|conn| conn.conntrack.as_deref().map(translation)).collect();
            Tracked { last, worked }
        })
    }

    fn peers(&self) -> &HashMap<(&'a str, u16), Handshakes<'a>> {
        self.peers.get_or_init(|| {
            let mut times: HashMap<_, Vec<i64>> = HashMap::new();
            let mut peers: HashMap<_, Handshakes<'a>> = HashMap::new();
            let dialed = |conn: &&TcpConnTrace| !conn.accepted && !conn.from_resolver && !conn.reused;
            for conn in self.graph.trace.tcp_conns.iter().filter(dialed) {
                let peer = (conn.addr_tuple.dst_ip.as_str(), conn.addr_tuple.dst_port);
                let handshakes = peers.entry(peer).or_default();
                let at = |time| self.graph.times.at(time);
                match (conn.connected, at(conn.handshake_begin_at), at(conn.handshake_end_at)) {
                    (true, Some(begin), Some(end)) => {
                        times.entry(peer).or_default().push(end.saturating_sub(begin));
                        let newest = handshakes.newest.and_then(|newest| at(newest.handshake_begin_at));
                        if newest < Some(begin) {
                            handshakes.newest = Some(conn);
                        }
                    }
                    (false, ..) if is_unanswered(conn) => handshakes.unanswered += 1,
                    _ => {}
                }
            }
            for (peer, times) in times {
                peers.entry(peer).or_default().usual = Usual::of(times);
            }
            peers
        })
    }

    fn exchanges(&self) -> impl Iterator<Item = Exchange<'a>> {
        let trace = self.graph.trace;
        trace.dns_queries.iter().filter_map(|query| Exchange::of(trace, query))
    }
}

/// Returns `true` if a handshake began and ended without an answer of the peer or of a router.
pub(super) fn is_unanswered(conn: &TcpConnTrace) -> bool {
    let gave_up =
        matches!(conn.end_reason, Some(EndReason::Timeout | EndReason::Cancelled | EndReason::LostRace));
    !conn.connected && conn.icmp_error.is_none() && (gave_up || conn.failure == Some(Failure::TimedOut))
}
