//! [`TraceStream`]: writes a trace record by record, without building it.
//!
//! A record is converted when it is its turn, so that it takes memory only until it is written. Records are written
//! meanwhile: what a record refers to is therefore converted after it. Requests come first, then tunnels, DNS messages,
//! dials, and connections last. Which requests and groups there are is decided before.

use super::{
    address_texts::AddressTexts,
    builder::{GroupSet, IdSet, clear_cause, in_order},
    timeline::Timeline,
    to_record,
};
#[cfg(feature = "encrypted-dns")]
use crate::sink::dial::shared_connection::SharedConnection;
use crate::{
    record::{
        BoxedOrEmpty, DialTrace, DnsQueryTrace, Dropped, HttpReqTrace, SocketTrace, TcpConnTrace,
        TlsTunnelTrace, TraceId, UdpConnTrace,
    },
    sink::{
        clock::Tick, conn::conn_ref::ConnRef, core::Core, dial::group::DialGroup, dns::record::DnsRecord,
        record_id::RecordId, registry::Pinned, request::record::RequestRecord,
    },
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    sync::Arc,
};

/// A trace of everything that is kept, which is serialized record by record.
pub(in crate::sink) struct TraceStream<'a> {
    core: &'a Arc<Core>,
    description: &'a str,
    times: Timeline,
    pinned: Vec<Pinned<RequestRecord>>,
    /// The requests that are written.
    known: IdSet,
    groups: RefCell<GroupSet>,
    /// How many operations the written connections have lost.
    dropped_ops: Cell<u64>,
    dropped: &'a dyn Fn(u64) -> Option<Dropped>,
}

impl<'a> TraceStream<'a> {
    /// Chooses what is written. `requests` returns those that are kept when it is called, `groups` must have been read
    /// before. `dropped` returns what was evicted, with a number of lost operations.
    pub(in crate::sink) fn new(
        core: &'a Arc<Core>,
        description: &'a str,
        groups: Vec<Arc<DialGroup>>,
        requests: impl Fn() -> Pinned<RequestRecord>,
        dropped: &'a dyn Fn(u64) -> Option<Dropped>,
    ) -> Self {
        let mut chosen = Chosen::default();
        chosen.groups.extend(groups);
        let mut pinned = vec![requests()];
        chosen.add_requests(&pinned[0], |_| true);
        chosen.add_links_of_groups();
        // What led to them may have come while they were read.
        if !chosen.missing.is_empty() {
            pinned.push(requests());
            while !chosen.missing.is_empty() {
                let missing = std::mem::take(&mut chosen.missing);
                chosen.add_requests(&pinned[1], |id| missing.contains(&id));
                chosen.add_links_of_groups();
            }
        }
        let Chosen { known, groups, .. } = chosen;
        TraceStream {
            core,
            description,
            times: core.timeline(),
            pinned,
            known,
            groups: RefCell::new(groups),
            dropped_ops: Cell::new(0),
            dropped,
        }
    }

    /// Returns the requests in the order in which they began.
    fn requests(&self) -> impl Iterator<Item = HttpReqTrace> {
        let mut requests: Vec<(Tick, RecordId, &RequestRecord)> = Vec::new();
        let mut seen = IdSet::default();
        for (id, request) in self.pinned.iter().flat_map(Pinned::iter) {
            if self.known.contains(id) && seen.insert(id) {
                requests.push((request.begin, id, request));
            }
        }
        in_order(&mut requests, |(begin, ..)| *begin);
        requests.into_iter().map(|(_, id, request)| self.request(id, request))
    }

    fn request(&self, id: RecordId, request: &RequestRecord) -> HttpReqTrace {
        let mut groups = self.groups.borrow_mut();
        let found = |group: &_| groups.add(group);
        let (mut out, others) = to_record::request_and_links(self.core, id, request, &self.times, found);
        let causes = others.prev_hop.into_iter().chain(others.cause);
        for cause in causes.filter(|cause| !self.known.contains(*cause)) {
            clear_cause(&mut out, &self.core.id(cause));
        }
        out
    }

    /// Returns the groups in the order in which they began, and at last those that are found meanwhile.
    fn groups(&self) -> impl Iterator<Item = Arc<DialGroup>> {
        in_order(&mut self.groups.borrow_mut().found, |group| group.begin_at());
        (0..).map_while(|place| self.groups.borrow().found.get(place).cloned())
    }

    fn tunnels(&self) -> impl Iterator<Item = TlsTunnelTrace> {
        self.groups().flat_map(move |group| {
            let tunnels = group.state().tls.clone();
            tunnels.into_iter().map(move |tls| to_record::tls(&group, tls, &self.times))
        })
    }

    fn dns_queries(&self) -> impl Iterator<Item = DnsQueryTrace> {
        self.groups().flat_map(move |group| {
            let queries = group.state().dns.clone();
            #[cfg(feature = "encrypted-dns")]
            for carrier in queries.iter().filter_map(|dns| SharedConnection::of(&**dns.carrier.as_ref()?)) {
                self.groups.borrow_mut().add(&carrier.group);
            }
            queries.into_iter().map(move |dns| self.dns_query(&group, dns))
        })
    }

    fn dns_query(&self, group: &Arc<DialGroup>, dns: DnsRecord) -> DnsQueryTrace {
        #[cfg(feature = "encrypted-dns")]
        let is_carrier_known = {
            let carried_by = dns.carrier.as_ref().and_then(|carrier| carrier.http_req());
            carried_by.is_none_or(|request| self.known.contains(request))
        };
        #[cfg(not(feature = "encrypted-dns"))]
        let is_carrier_known = true;
        let mut out = to_record::dns(group, dns, &self.times);
        if !is_carrier_known {
            out.http_req = BoxedOrEmpty::new();
        }
        out
    }

    fn dials(&self) -> impl Iterator<Item = DialTrace> {
        self.groups().filter_map(move |group| self.dial(&group))
    }

    fn dial(&self, group: &Arc<DialGroup>) -> Option<DialTrace> {
        let head = group.dial.as_ref()?;
        let ended = head.end.get();
        let state = {
            let state = group.state();
            #[cfg(feature = "encrypted-dns")]
            state.shared_dials().for_each(|shared| self.groups.borrow_mut().add(shared));
            state.dial.clone()
        };
        let trigger = head.trigger.or(state.served_request);
        let mut out = to_record::dial_ended(self.core, head, state, ended, &self.times);
        if trigger.is_some_and(|trigger| !self.known.contains(trigger)) {
            out.triggered_by = TraceId::UNDEFINED;
        }
        Some(out)
    }

    fn tcp_conns(&self) -> impl Iterator<Item = TcpConnTrace> {
        let mut addresses = AddressTexts::default();
        self.conns().filter(|conn| !conn.record().is_udp()).map(move |conn| {
            let out = to_record::tcp_conn(&conn, &self.times, &mut addresses);
            self.count_dropped_ops(out.socket_trace.as_ref());
            out
        })
    }

    fn udp_conns(&self) -> impl Iterator<Item = UdpConnTrace> {
        let mut addresses = AddressTexts::default();
        self.conns().filter(|conn| conn.record().is_udp()).map(move |conn| {
            let out = to_record::udp_conn(&conn, &self.times, &mut addresses);
            self.count_dropped_ops(out.socket_trace.as_ref());
            out
        })
    }

    fn conns(&self) -> impl Iterator<Item = ConnRef> {
        self.groups().flat_map(|group| ConnRef::all(&group, &group.state()).collect::<Vec<_>>())
    }

    fn count_dropped_ops(&self, ops: Option<&SocketTrace>) {
        self.dropped_ops.set(self.dropped_ops.get() + ops.map_or(0, |ops| ops.dropped_ops));
    }
}

impl Serialize for TraceStream<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut trace = serializer.serialize_map(None)?;
        trace.serialize_entry("description", self.description)?;
        trace.serialize_entry("traceBeginAt", &self.times.begin())?;
        if let Some(session) = &self.core.config.session {
            trace.serialize_entry("uuid", session)?;
        }
        trace.serialize_entry("httpRequests", &Records(|| self.requests()))?;
        trace.serialize_entry("tlsTunnels", &Records(|| self.tunnels()))?;
        trace.serialize_entry("dnsQueries", &Records(|| self.dns_queries()))?;
        trace.serialize_entry("dials", &Records(|| self.dials()))?;
        trace.serialize_entry("tcpConns", &Records(|| self.tcp_conns()))?;
        trace.serialize_entry("udpConns", &Records(|| self.udp_conns()))?;
        trace.serialize_entry("traceEndAt", &self.times.at(self.core.now()))?;
        if let Some(dropped) = (self.dropped)(self.dropped_ops.get()) {
            trace.serialize_entry("dropped", &dropped)?;
        }
        trace.end()
    }
}

/// A list of records, each of which is converted when it is serialized.
struct Records<F>(F);

impl<F, I> Serialize for Records<F>
where
    F: Fn() -> I,
    I: Iterator<Item: Serialize>,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// The requests and groups that are to be written.
#[derive(Default)]
struct Chosen {
    known: IdSet,
    groups: GroupSet,
    /// The number of groups of which it is known to what they refer.
    visited_groups: usize,
    /// Requests that chosen ones refer to, and that are not known yet.
    missing: HashSet<RecordId>,
}

impl Chosen {
    /// Adds those requests that `is_chosen` returns `true` for, and the groups that they refer to.
    fn add_requests(&mut self, requests: &Pinned<RequestRecord>, is_chosen: impl Fn(RecordId) -> bool) {
        let mut causes = Vec::new();
        for (id, request) in requests.iter().filter(|(id, _)| is_chosen(*id)) {
            if self.known.insert(id) {
                causes.extend(to_record::related_requests(request, |group| self.groups.add(group)));
            }
        }
        let known = &self.known;
        self.missing.extend(causes.into_iter().filter(|cause| !known.contains(*cause)));
    }

    /// Adds what the groups refer to.
    fn add_links_of_groups(&mut self) {
        while let Some(group) = self.groups.found.get(self.visited_groups).cloned() {
            self.visited_groups += 1;
            let state = group.state();
            let trigger = group.dial.as_ref().and_then(|dial| dial.trigger.or(state.dial.served_request));
            self.missing.extend(trigger.filter(|trigger| !self.known.contains(*trigger)));
            #[cfg(feature = "encrypted-dns")]
            {
                state.shared_dials().for_each(|shared| self.groups.add(shared));
                for carrier in
                    state.dns.iter().filter_map(|dns| SharedConnection::of(&**dns.carrier.as_ref()?))
                {
                    self.groups.add(&carrier.group);
                    let carried_by = carrier.http.get().map(|request| request.record_id());
                    self.missing.extend(carried_by.filter(|request| !self.known.contains(*request)));
                }
            }
        }
    }
}
