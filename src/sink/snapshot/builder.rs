//! Builds traces: of everything that is kept, or of one request.
//!
//! Records are written meanwhile. Every reference in a trace still leads to a record of the trace, because what a
//! record refers to is read after the record itself.

use super::{address_texts::AddressTexts, to_record};
#[cfg(feature = "encrypted-dns")]
use crate::sink::dial::shared_connection::SharedConnection;
use crate::{
    record::{BoxedOrEmpty, DialTrace, HttpReqTrace, NetTrace, TraceId, TraceList},
    sink::{
        clock::Tick,
        conn::conn_ref::ConnRef,
        core::Core,
        dial::group::DialGroup,
        dns::record::DnsRecord,
        record_id::RecordId,
        registry::Pinned,
        request::record::{RequestRecord, RequestRef},
        snapshot::timeline::Timeline,
        tls::record::TlsRecord,
    },
};
use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

/// Returns a trace of everything that is kept. `requests` returns those that are kept when it is called.
pub(in crate::sink) fn all(
    core: &Arc<Core>,
    groups: Vec<Arc<DialGroup>>,
    requests: impl Fn() -> Pinned<RequestRecord>,
) -> NetTrace {
    let mut builder = SnapshotBuilder::new(core);
    builder.groups.seen.reserve(groups.len());
    let known = requests();
    builder.requests(known.max_len(), known.iter());
    builder.linked(groups);
    // A request may have been given a connection that was dialled for another one, which began after the first look.
    let missing = builder.missing();
    if !missing.is_empty() {
        let all = requests();
        builder.requests(missing.len(), all.iter().filter(|(number, _)| missing.contains(number)));
        builder.linked(vec![]);
    }
    builder.finish()
}

/// Returns the trace of one request with everything that it refers to: the hops before it, its connections and their
/// dials.
pub(in crate::sink) fn slice(request: &RequestRef) -> NetTrace {
    hops(std::slice::from_ref(request))
}

/// Returns the trace of these hops, the last one last. Hops of another sink are left out.
pub(in crate::sink) fn hops(hops: &[RequestRef]) -> NetTrace {
    let Some(last) = hops.last() else { return NetTrace::default() };
    let mut builder = SnapshotBuilder::new(last.core());
    let same_sink = hops.iter().filter(|hop| hop.is_of(last.core()));
    builder.requests(hops.len(), same_sink.map(|hop| (hop.record_id(), &*hop.record)));
    builder.linked(vec![]);
    builder.finish()
}

/// A trace that is being built.
struct SnapshotBuilder {
    core: Arc<Core>,
    times: Timeline,
    /// The requests that are in the trace.
    known: IdSet,
    groups: GroupSet,
    /// The groups that are in the trace.
    groups_held: Vec<Arc<DialGroup>>,
    http: RecordList<HttpReqTrace>,
    dials: RecordList<DialTrace>,
    conns: Vec<ConnRef>,
    /// The other records of the groups, each with the index of its group in `groups_held`.
    queries: Vec<(usize, DnsRecord)>,
    tunnels: Vec<(usize, TlsRecord)>,
    /// Requests that carried the DNS messages of these groups.
    carriers: Vec<RequestRef>,
}

/// The number of records that a group usually has, reserved before the group is locked.
const TYPICAL_GROUP_RECORDS: usize = 8;

impl SnapshotBuilder {
    fn new(core: &Arc<Core>) -> Self {
        SnapshotBuilder {
            core: core.clone(),
            times: core.timeline(),
            known: IdSet::default(),
            groups: GroupSet::default(),
            groups_held: vec![],
            http: RecordList::default(),
            dials: RecordList::default(),
            conns: vec![],
            queries: vec![],
            tunnels: vec![],
            carriers: vec![],
        }
    }

    /// Adds requests, and those that belong to them.
    fn requests<'a>(
        &mut self,
        max_len: usize,
        requests: impl Iterator<Item = (RecordId, &'a RequestRecord)>,
    ) {
        let mut new = Vec::with_capacity(max_len);
        let requests = requests.filter(|(number, _)| self.known.insert(*number));
        new.extend(requests.map(|(number, request)| (request.begin, number, request)));
        in_order(&mut new, |(begin, ..)| *begin);
        self.http.reserve(new.len());
        for (_, number, request) in new {
            let mut more = self.request(number, request);
            while let Some(other) = more.pop() {
                if self.known.insert(other.record_id()) {
                    more.append(&mut self.request(other.record_id(), &other.record));
                }
            }
        }
    }

    /// Adds a request. Returns those that belong to it: the hop before it, and each CONNECT that was made because of
    /// it.
    fn request(&mut self, number: RecordId, request: &RequestRecord) -> Vec<RequestRef> {
        let found = |group: &_| self.groups.add(group);
        let (out, others) = to_record::request_and_links(&self.core, number, request, &self.times, found);
        self.http.push(request.begin, others.prev_hop.into_iter().chain(others.cause), out);
        others.kept
    }

    /// Adds these groups, those that the requests refer to, and what these groups refer to.
    fn linked(&mut self, groups: Vec<Arc<DialGroup>>) {
        self.groups.extend(groups);
        while !self.groups.found.is_empty() {
            self.found_groups();
            let carriers = std::mem::take(&mut self.carriers);
            self.requests(
                carriers.len(),
                carriers.iter().map(|request| (request.record_id(), &*request.record)),
            );
        }
    }

    fn found_groups(&mut self) {
        let mut groups = std::mem::take(&mut self.groups.found);
        in_order(&mut groups, |group| group.dial.as_ref().map(|dial| dial.begin));
        self.groups_held.reserve(groups.len());
        self.dials.reserve(groups.len());
        self.conns.reserve(groups.len());
        for group in groups {
            self.group(&group);
            self.groups_held.push(group);
        }
    }

    fn group(&mut self, group: &Arc<DialGroup>) {
        let place = self.groups_held.len();
        self.conns.reserve(TYPICAL_GROUP_RECORDS);
        self.queries.reserve(TYPICAL_GROUP_RECORDS);
        self.tunnels.reserve(TYPICAL_GROUP_RECORDS);
        // The end is read before the rest, and everything is copied out of the lock before it is converted.
        let ended = group.dial.as_ref().and_then(|dial| dial.end.get());
        let state = {
            let state = group.state();
            self.conns.extend(ConnRef::all(group, &state));
            self.queries.extend(state.dns.iter().map(|dns| (place, dns.clone())));
            self.tunnels.extend(state.tls.iter().map(|tls| (place, tls.clone())));
            #[cfg(feature = "encrypted-dns")]
            {
                state.shared_dials().for_each(|group| self.groups.add(group));
                let carriers =
                    state.dns.iter().filter_map(|dns| SharedConnection::of(&**dns.carrier.as_ref()?));
                for SharedConnection { group, http } in carriers {
                    self.groups.add(group);
                    self.carriers.extend(http.get().cloned());
                }
            }
            state.dial.clone()
        };
        if let Some(head) = &group.dial {
            let trigger = head.trigger.or(state.served_request);
            let dial = to_record::dial_ended(&self.core, head, state, ended, &self.times);
            self.dials.push(head.begin, trigger, dial);
        }
    }

    /// Returns the requests that caused a dial of the trace, and are not in the trace.
    fn missing(&self) -> HashSet<RecordId> {
        let triggers = self.dials.caused.iter().map(|(_, trigger)| *trigger);
        triggers.filter(|trigger| !self.known.contains(*trigger)).collect()
    }

    /// Returns the trace. Clears references to requests that are not in it.
    fn finish(mut self) -> NetTrace {
        let known = self.known;
        self.http.clear_unknown_causes(&known, |request, cause| {
            clear_cause(request, &self.core.id(cause));
        });
        self.dials.clear_unknown_causes(&known, |dial, _| dial.triggered_by = TraceId::UNDEFINED);

        in_order(&mut self.conns, |conn| conn.record().begin);
        in_order(&mut self.queries, |(_, dns)| first_message(dns));
        in_order(&mut self.tunnels, |(_, tls)| tls.begin);
        let (times, groups_held) = (&self.times, &self.groups_held);
        let udp = self.conns.iter().filter(|conn| conn.record().is_udp()).count();
        let mut udp_conns = Vec::with_capacity(udp);
        let mut tcp_conns = Vec::with_capacity(self.conns.len() - udp);
        let mut addresses = AddressTexts::default();
        for conn in &self.conns {
            if conn.record().is_udp() {
                udp_conns.push(to_record::udp_conn(conn, times, &mut addresses));
            } else {
                tcp_conns.push(to_record::tcp_conn(conn, times, &mut addresses));
            }
        }
        let (queries, tunnels) = (self.queries.into_iter(), self.tunnels.into_iter());
        NetTrace {
            trace_begin_at: times.begin(),
            trace_end_at: times.at(self.core.now()),
            uuid: self.core.config.session.clone(),
            dials: self.dials.in_order(),
            tcp_conns: tcp_conns.into(),
            udp_conns: udp_conns.into(),
            dns_queries: queries
                .map(|(place, dns)| to_record::dns(&groups_held[place], dns, times))
                .collect(),
            tls_tunnels: tunnels
                .map(|(place, tls)| to_record::tls(&groups_held[place], tls, times))
                .collect(),
            http_requests: self.http.in_order(),
            ..NetTrace::default()
        }
    }
}

/// Clears the links of a request to the one with this identifier.
pub(super) fn clear_cause(request: &mut HttpReqTrace, cause: &TraceId) {
    for link in [&mut request.prev_hop, &mut request.triggered_by] {
        if *link == *cause {
            *link = BoxedOrEmpty::new();
        }
    }
}

/// Groups as they are found, each once.
#[derive(Default)]
pub(super) struct GroupSet {
    /// All groups that were ever found. They live as long as the builder, so that no other can have the same address.
    seen: HashSet<*const DialGroup, IdHashState>,
    pub(super) found: Vec<Arc<DialGroup>>,
}

impl GroupSet {
    pub(super) fn extend(&mut self, groups: Vec<Arc<DialGroup>>) {
        self.seen.reserve(groups.len());
        self.found.extend(groups.into_iter().filter(|group| self.seen.insert(Arc::as_ptr(group))));
    }

    #[inline]
    pub(super) fn add(&mut self, group: &Arc<DialGroup>) {
        if self.seen.insert(Arc::as_ptr(group)) {
            self.found.push(group.clone());
        }
    }
}

fn first_message(record: &DnsRecord) -> Option<Tick> {
    record.queries.first().map(|(at, _)| *at)
}

/// Sorts by when the records began; those that began at the same moment keep their order. They come nearly in order.
pub(super) fn in_order<T, B: Ord>(items: &mut [T], begin: impl Fn(&T) -> B) {
    if !items.is_sorted_by_key(&begin) {
        items.sort_by_key(begin);
    }
}

/// Records in the order in which they were converted.
struct RecordList<T> {
    began: Vec<Tick>,
    made: Vec<T>,
    /// The index of each record that requests led to, with each of those requests.
    caused: Vec<(usize, RecordId)>,
}

impl<T> Default for RecordList<T> {
    fn default() -> Self {
        RecordList { began: vec![], made: vec![], caused: vec![] }
    }
}

impl<T> RecordList<T> {
    fn reserve(&mut self, more: usize) {
        self.began.reserve(more);
        self.made.reserve(more);
    }

    /// Adds a record. `causes` are the requests that led to it.
    fn push(&mut self, begin: Tick, causes: impl IntoIterator<Item = RecordId>, record: T) {
        let place = self.made.len();
        self.caused.extend(causes.into_iter().map(|cause| (place, cause)));
        self.began.push(begin);
        self.made.push(record);
    }

    /// Passes each record with a cause that is not known, and the cause, to `forget`.
    fn clear_unknown_causes(&mut self, known: &IdSet, forget: impl Fn(&mut T, RecordId)) {
        for (place, cause) in self.caused.iter().filter(|(_, cause)| !known.contains(*cause)) {
            forget(&mut self.made[*place], *cause);
        }
    }

    /// Returns the records sorted by when they began. Usually they are sorted, and stay where they are.
    fn in_order(self) -> TraceList<T> {
        let RecordList { began, mut made, .. } = self;
        if !began.is_sorted() {
            let mut from: Vec<usize> = (0..began.len()).collect();
            from.sort_by_key(|at| began[*at]);
            let mut to = vec![0; from.len()];
            from.iter().enumerate().for_each(|(place, at)| to[*at] = place);
            for at in 0..to.len() {
                while to[at] != at {
                    let place = to[at];
                    made.swap(at, place);
                    to.swap(at, place);
                }
            }
        }
        made.into()
    }
}

/// A set of record IDs, most of which are neighbours.
#[derive(Default)]
pub(super) struct IdSet(HashMap<u64, u64, IdHashState>);

impl IdSet {
    /// Returns `true` if the ID was not in the set.
    #[inline]
    pub(super) fn insert(&mut self, id: RecordId) -> bool {
        let number = id.get();
        let (bits, bit) = (self.0.entry(number / 64).or_default(), 1 << (number % 64));
        let is_new = *bits & bit == 0;
        *bits |= bit;
        is_new
    }

    #[inline]
    pub(super) fn contains(&self, id: RecordId) -> bool {
        let number = id.get();
        self.0.get(&(number / 64)).is_some_and(|bits| bits & 1 << (number % 64) != 0)
    }
}

/// A hasher for numbers and addresses, which nobody outside can choose.
///
/// With foldhash, which is a dependency of the client only, a snapshot of requests takes 0.2 % more instructions.
type IdHashState = BuildHasherDefault<IdHasher>;

#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio. A hash table uses the lowest bits, which are zero in an address.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_in_the_order_in_which_they_began() {
        for begins in [&[][..], &[1], &[1, 2, 3], &[3, 1, 2], &[3, 3, 2, 2, 4, 1], &[5, 4, 3, 2, 1]] {
            let mut records = RecordList::default();
            for (at, begin) in begins.iter().enumerate() {
                records.push(Tick::from_ticks(*begin), None, (*begin, at));
            }
            let mut sorted: Vec<_> = begins.iter().copied().zip(0..).collect();
            sorted.sort();
            assert_eq!(records.in_order().into_vec(), sorted);
        }
    }

    #[test]
    fn causes_that_are_not_in_the_trace_are_cleared() {
        let mut records = RecordList::default();
        (0..4).for_each(|request| records.push(Tick::from_ticks(request), RecordId::new(request), true));
        let mut known = IdSet::default();
        assert!(
            [1, 3, 64].map(RecordId::from_nonzero).into_iter().all(|id| known.insert(id))
                && !known.insert(RecordId::from_nonzero(3))
        );
        records.clear_unknown_causes(&known, |has_request, _| *has_request = false);
        assert_eq!(records.in_order().into_vec(), [true, true, false, true]);
    }
}
