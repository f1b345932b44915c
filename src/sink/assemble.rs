//! Traces put together: of all that is kept, or of one request.
//!
//! Whatever is written meanwhile, every reference leads somewhere. What a record refers to is read after it, and
//! so is there.

use super::{
    clock::Tick,
    core::{Core, Timeline},
    dns::DnsRecord,
    export,
    group::Group,
    registry::Rec,
    request::{RequestRecord, RequestRef},
};
use crate::record::{
    DialTrace, DnsQueryTrace, HttpReqTrace, NetTrace, TcpConnTrace, TlsTunnelTrace, TraceId, UdpConnTrace,
};
use std::{collections::HashSet, sync::Arc};

/// All that is kept. `requests` gives those of the time when it is called.
pub(super) fn all(
    core: &Arc<Core>,
    groups: Vec<Arc<Group>>,
    requests: impl Fn() -> Vec<Rec<RequestRecord>>,
) -> NetTrace {
    let mut assembly = Assembly::new(core);
    let linked = assembly.requests(requests());
    assembly.groups(groups.into_iter().chain(linked));
    // A request was given a connection that was dialled for one which had not begun when we looked.
    let missing = assembly.missing();
    if !missing.is_empty() {
        let found = requests().into_iter().filter(|request| missing.contains(&request.number())).collect();
        let linked = assembly.requests(found);
        assembly.groups(linked);
    }
    assembly.finish()
}

/// One request with all that it refers to: the hops before it, its connections and their dials.
pub(super) fn slice(request: &RequestRef) -> NetTrace {
    hops(std::slice::from_ref(request))
}

/// The same for hops that are known, the last one last; those of another sink are left out.
pub(super) fn hops(hops: &[RequestRef]) -> NetTrace {
    let Some(last) = hops.last() else { return NetTrace::default() };
    let mut assembly = Assembly::new(last.core());
    let same_sink = hops.iter().filter(|hop| hop.is_of(last.core()));
    let linked = assembly.requests(same_sink.map(|hop| hop.record.clone()).collect());
    assembly.groups(linked);
    assembly.finish()
}

/// Records with when they began.
type Records<T> = Vec<(Tick, T)>;

struct Assembly {
    core: Arc<Core>,
    times: Timeline,
    /// Numbers of the requests that are in it.
    known: HashSet<u64>,
    /// The groups that are in it, which live as long: another might take the place of one.
    seen: HashSet<*const Group>,
    held: Vec<Arc<Group>>,
    /// Each with the number of the hop before it.
    http: Records<(HttpReqTrace, u64)>,
    /// Each with the number of the request that caused it.
    dials: Records<(DialTrace, u64)>,
    tcp: Records<TcpConnTrace>,
    udp: Records<UdpConnTrace>,
    queries: Records<DnsQueryTrace>,
    tunnels: Records<TlsTunnelTrace>,
}

impl Assembly {
    fn new(core: &Arc<Core>) -> Self {
        Assembly {
            core: core.clone(),
            times: core.timeline(),
            known: HashSet::new(),
            seen: HashSet::new(),
            held: vec![],
            http: vec![],
            dials: vec![],
            tcp: vec![],
            udp: vec![],
            queries: vec![],
            tunnels: vec![],
        }
    }

    /// Takes requests with the hops before them, and gives back the groups that they refer to.
    fn requests(&mut self, mut requests: Vec<Rec<RequestRecord>>) -> Vec<Arc<Group>> {
        let mut groups = Vec::new();
        requests.retain(|request| self.known.insert(request.number()));
        self.http.reserve(requests.len());
        while let Some(record) = requests.pop() {
            let request = RequestRef { record };
            let (out, prev_hop) = export::request_and_links(&request, &self.times, &mut groups);
            let before = prev_hop.kept.filter(|hop| self.known.insert(hop.number()));
            requests.extend(before.map(|hop| hop.record));
            self.http.push((request.record.begin, (out, prev_hop.number)));
        }
        groups
    }

    fn groups(&mut self, groups: impl IntoIterator<Item = Arc<Group>>) {
        for group in groups {
            if self.seen.insert(Arc::as_ptr(&group)) {
                self.group(&group);
                self.held.push(group);
            }
        }
    }

    fn group(&mut self, group: &Group) {
        let times = &self.times;
        // The end before the rest, and everything out of the lock before it is put into words.
        let ended = group.dial.as_ref().and_then(|dial| dial.end.get());
        let state = group.state().clone();
        if let Some(head) = &group.dial {
            let dial = export::dial_ended(&self.core, head, state.dial, ended, times);
            self.dials.push((head.begin, (dial, head.trigger)));
        }
        for conn in &state.conns {
            if conn.is_udp() {
                self.udp.push((conn.begin, export::udp_conn(group, conn, times)));
            } else {
                self.tcp.push((conn.begin, export::tcp_conn(group, conn, times)));
            }
        }
        let queries = state.dns.into_iter();
        self.queries.extend(queries.map(|dns| (first_message(&dns), export::dns(group, dns, times))));
        let tunnels = state.tls.into_iter();
        self.tunnels.extend(tunnels.map(|tls| (tls.begin, export::tls(group, tls, times))));
    }

    /// Requests that caused a dial which is in it, and are not.
    fn missing(&self) -> HashSet<u64> {
        let triggers = self.dials.iter().map(|(_, (_, trigger))| *trigger);
        triggers.filter(|trigger| *trigger != 0 && !self.known.contains(trigger)).collect()
    }

    /// What a record refers to may have been forgotten long ago.
    fn finish(mut self) -> NetTrace {
        let known = self.known;
        for (_, (request, prev_hop)) in &mut self.http {
            if !known.contains(prev_hop) {
                request.prev_hop = TraceId::default();
            }
        }
        for (_, (dial, trigger)) in &mut self.dials {
            if !known.contains(trigger) {
                dial.triggered_by = TraceId::default();
            }
        }
        NetTrace {
            trace_begin_at: self.times.begin(),
            trace_end_at: self.times.at(self.core.now()),
            uuid: self.core.settings.session.clone(),
            dials: in_order(self.dials).map(|(dial, _)| dial).collect(),
            tcp_conns: in_order(self.tcp).collect(),
            udp_conns: in_order(self.udp).collect(),
            dns_queries: in_order(self.queries).collect(),
            tls_tunnels: in_order(self.tunnels).collect(),
            http_requests: in_order(self.http).map(|(request, _)| request).collect(),
            ..NetTrace::default()
        }
    }
}

fn first_message(record: &DnsRecord) -> Tick {
    record.queries.first().map_or(Tick::NONE, |(at, _)| *at)
}

/// Sorted by when they began; those that began at the same moment stay as they came.
fn in_order<T>(mut records: Records<T>) -> impl Iterator<Item = T> {
    records.sort_by_key(|(begin, _)| *begin);
    records.into_iter().map(|(_, record)| record)
}
