//! [`DialGroup`]: a dial with its connections, DNS queries and TLS tunnels, kept and evicted as one.
//!
//! Links between records point one way only: from requests to groups, and from a group to the dials of nameservers and
//! the requests that carried its DNS messages. A group owns everything else in it. So nothing can keep itself alive.

#[cfg(feature = "resolve")]
use crate::nameserver::Nameserver;
#[cfg(feature = "encrypted-dns")]
use crate::sink::dns::carrier::DnsCarrier;
use crate::{
    error::FailureDetail,
    record::{EndReason, Text, limits::LimitedText},
    sink::{
        clock::Tick,
        conn::record::{ConnPath, ConnRecord},
        core::{Core, Weight},
        dns::record::DnsRecord,
        record_id::RecordId,
        registry::{
            CHUNK, Evictable, Rec,
            end::{End, EndCell},
            record_bytes,
        },
        tls::record::TlsRecord,
    },
};
use smallvec::SmallVec;
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicU32,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
};

#[cfg(feature = "_record_conns")]
mod begin;

#[cfg(feature = "resolve")]
pub(in crate::sink) use begin::push_reserving;

/// A dial with everything that belongs to it, or records outside any dial.
pub(crate) struct DialGroup {
    pub(crate) core: Arc<Core>,
    /// `None` if the group is for records outside any dial, for instance of an accepted connection.
    pub(crate) dial: Option<DialHead>,
    /// The number of records in the group that have not ended.
    running: AtomicU32,
    /// The number of references from requests that are kept, and from dials whose lookups it carried.
    retained: AtomicU32,
    state: Mutex<GroupState>,
    /// The first connection. It is part of the group, so that a dial with its connection is usually one block of
    /// memory.
    first: OnceLock<ConnRecord>,
}

/// The place of a connection's record in its group.
#[derive(Clone)]
pub(crate) enum ConnSlot {
    First,
    Other(Arc<ConnRecord>),
}

/// The size of the counters of an `Arc`.
const ARC_COUNTER_BYTES: usize = 2 * size_of::<usize>();

/// The facts about a dial that are known when it begins.
pub(crate) struct DialHead {
    pub(crate) id: RecordId,
    pub(crate) begin: Tick,
    /// `host:port`
    pub(crate) destination: LimitedText,
    /// The name of the proxy that the dial leads to, as records show it.
    pub(crate) proxy: Option<Arc<Text>>,
    /// The request that needed the dial; `None` if none is known.
    pub(crate) trigger: Option<RecordId>,
    pub(crate) end: EndCell,
}

/// The state of a group, behind its lock.
#[derive(Default)]
pub(crate) struct GroupState {
    pub(crate) dial: DialState,
    /// The connections after the first.
    others: Vec<Arc<ConnRecord>>,
    pub(crate) dns: Vec<DnsRecord>,
    /// Through a proxy there may be two.
    pub(crate) tls: SmallVec<[TlsRecord; 1]>,
    /// How many connections of the group are counted in `Core::ended_conns`.
    ended_conns: u32,
    /// The bytes that were charged for everything that has ended.
    charged: u32,
    /// The number of requests that are kept longer than others and refer to the group.
    kept_requests: u32,
    /// Set when nothing more may begin in the group: the sink was closed, or the group was evicted.
    sealed: bool,
}

impl GroupState {
    /// Returns the dials to nameservers that lookups of this group have waited for. Those dials have no such links
    /// themselves.
    #[cfg(feature = "encrypted-dns")]
    pub(in crate::sink) fn shared_dials(&self) -> impl Iterator<Item = &Arc<DialGroup>> {
        self.dial.resolver_dials.iter().filter_map(|dial| dial.shared.as_ref())
    }

    /// Returns what the group takes of the bounds of the sink.
    fn weight(&self) -> Weight {
        Weight { bytes: self.charged, conns: self.ended_conns }
    }

    /// Returns the heap memory that the state takes.
    fn heap_bytes(&self) -> usize {
        let others: usize = self
            .others
            .iter()
            .map(|other| size_of::<ConnRecord>() + ARC_COUNTER_BYTES + other.heap_bytes())
            .sum();
        let dns: usize = self.dns.iter().map(DnsRecord::heap_bytes).sum();
        let tls: usize = self.tls.iter().map(TlsRecord::heap_bytes).sum();
        let tls_list = if self.tls.spilled() { self.tls.capacity() * size_of::<TlsRecord>() } else { 0 };
        let skipped: usize = self.dial.skipped.iter().map(|(_, reason)| reason.len()).sum();
        others
            + dns
            + tls
            + skipped
            + tls_list
            + self.others.capacity() * size_of::<Arc<ConnRecord>>()
            + self.dns.capacity() * size_of::<DnsRecord>()
            + self.dial.skipped.capacity() * size_of::<(SocketAddr, Box<str>)>()
            + self.dial.resolver_dials.capacity() * size_of::<ResolverDial>()
    }
}

/// The facts about a dial that become known while it runs.
#[derive(Clone, Default)]
pub(crate) struct DialState {
    /// When nobody needed the dial any more. In a trace it is `ctxCloseAt`, after the context of Go's `DialContext`.
    pub(crate) ctx_closed_at: Option<Tick>,
    pub(crate) resolve_begin: Option<Tick>,
    pub(crate) resolve_end: Option<Tick>,
    pub(crate) source_ip: Option<IpAddr>,
    pub(crate) established: Option<RecordId>,
    /// The first request that waited for the dial, if the dial began without a request.
    pub(crate) served_request: Option<RecordId>,
    /// Whether the connection was established for the request that caused the dial. Otherwise that request has left the
    /// dial to itself.
    pub(crate) is_for_trigger: bool,
    pub(crate) skipped: Vec<(SocketAddr, Box<str>)>,
    pub(crate) resolver_dials: Vec<ResolverDial>,
}

impl DialState {
    /// Records that nobody needs the dial any more.
    pub(crate) fn close_ctx(&mut self, at: Tick) {
        self.ctx_closed_at.get_or_insert(at);
    }

    /// Ends the lookup of names, also one under way that was abandoned.
    pub(crate) fn end_resolve(&mut self, now: Tick) {
        if let (Some(begin), None) = (self.resolve_begin, self.resolve_end) {
            self.resolve_end = Some(now.max(begin));
        }
    }
}

/// A dial of the resolver, to a nameserver. Its record in a trace has no reason for its end.
#[derive(Clone, Debug)]
pub(crate) struct ResolverDial {
    #[cfg(feature = "resolve")]
    pub(crate) nameserver: Nameserver,
    /// The dial of a connection that several lookups may share.
    #[cfg(feature = "encrypted-dns")]
    pub(in crate::sink) shared: Option<Arc<DialGroup>>,
    pub(crate) begin: Tick,
    pub(crate) end: Option<End>,
    pub(crate) conn: Option<RecordId>,
}

impl DialGroup {
    /// Locks the state. Held for moments only, and never while anything outside the sink is called.
    pub(crate) fn state(&self) -> MutexGuard<'_, GroupState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the record of a connection of this group.
    #[inline]
    pub(in crate::sink) fn conn<'a>(&'a self, slot: &'a ConnSlot) -> &'a ConnRecord {
        match slot {
            ConnSlot::First => self.first.get().expect("it was put there before the first reference to it"),
            ConnSlot::Other(record) => record,
        }
    }

    /// Returns the places of the group's connections. `state` is the locked state of the group.
    pub(in crate::sink) fn conn_slots<'a>(
        &'a self,
        state: &'a GroupState,
    ) -> impl Iterator<Item = ConnSlot> + 'a {
        let first = self.first.get().map(|_| ConnSlot::First);
        first.into_iter().chain(state.others.iter().cloned().map(ConnSlot::Other))
    }

    /// Counts the end of a record. Must not be called while the state is locked.
    pub(crate) fn record_ended(&self) {
        if self.running.fetch_sub(1, AcqRel) == 1 {
            let mut state = self.state();
            let before = state.weight();
            let count = self.conn_count(&state) as u32;
            let more = if state.sealed { 0 } else { count - state.ended_conns };
            state.ended_conns += more;
            self.core.ended_conns.fetch_add(more as usize, Relaxed);
            if !state.sealed && self.core.budget.is_limited() {
                let bytes = u32::try_from(self.bytes(&state)).unwrap_or(u32::MAX);
                let charged = std::mem::replace(&mut state.charged, bytes);
                self.core.budget.recharge(charged as usize, bytes as usize);
            }
            if state.kept_requests > 0 {
                self.core.kept_weight.change(before, state.weight());
            }
        }
    }

    /// Returns the memory that the group takes, its place in the registry and everything in it included.
    #[inline]
    fn bytes(&self, state: &GroupState) -> usize {
        let own = record_bytes::<GroupSlot>() + ARC_COUNTER_BYTES + size_of::<DialGroup>();
        let dial = self.dial.as_ref().map_or(0, |dial| {
            let fault = dial.end.fault().map_or(0, |fault| size_of::<FailureDetail>() + fault.heap_bytes());
            dial.destination.heap_bytes() + fault
        });
        let first = self.first.get().map_or(0, ConnRecord::heap_bytes);
        own + dial + first + state.heap_bytes()
    }

    /// Returns when the dial began, or the first connection.
    #[cfg(any(feature = "_record", feature = "json"))]
    pub(in crate::sink) fn begin_at(&self) -> Option<Tick> {
        let dial = self.dial.as_ref().map(|dial| dial.begin);
        dial.or_else(|| self.first.get().map(|conn| conn.begin))
    }

    fn is_running(&self) -> bool {
        self.running.load(Acquire) != 0
    }

    /// Keeps the group for a request or a group that refers to it.
    #[cfg(any(feature = "connect", feature = "request"))]
    pub(crate) fn retain(&self) {
        self.retained.fetch_add(1, Relaxed);
    }

    /// Ends one [`retain`](Self::retain): what refers to the group is not kept any more.
    pub(crate) fn release(&self) {
        self.retained.fetch_sub(1, AcqRel);
    }

    /// Counts a request that refers to the group and is kept longer than others.
    pub(in crate::sink) fn add_kept_request(&self) {
        let mut state = self.state();
        state.kept_requests += 1;
        if state.kept_requests == 1 {
            self.core.kept_weight.change(Weight::default(), state.weight());
        }
    }

    /// Ends one [`add_kept_request`](Self::add_kept_request).
    pub(in crate::sink) fn remove_kept_request(&self) {
        let mut state = self.state();
        state.kept_requests -= 1;
        if state.kept_requests == 0 {
            self.core.kept_weight.change(state.weight(), Weight::default());
        }
    }

    /// Returns the connections of the group. `state` is its locked state.
    pub(in crate::sink) fn conns<'a>(
        &'a self,
        state: &'a GroupState,
    ) -> impl Iterator<Item = &'a ConnRecord> {
        self.first.get().into_iter().chain(state.others.iter().map(|other| &**other))
    }

    fn conn_count(&self, state: &GroupState) -> usize {
        usize::from(self.first.get().is_some()) + state.others.len()
    }

    pub(crate) fn dial_id(&self) -> Option<RecordId> {
        self.dial.as_ref().map(|dial| dial.id)
    }

    /// Returns the request that needed the dial, as far as is known by now.
    pub(in crate::sink) fn triggered_by(&self) -> Option<RecordId> {
        let dial = self.dial.as_ref()?;
        dial.trigger.or_else(|| self.state().dial.served_request)
    }

    /// Attributes a dial that began without a request to the request that was waiting for it. Returns `true` if it had
    /// none before.
    #[cfg(feature = "tonic")]
    pub(in crate::sink) fn attribute_to(&self, request: RecordId, request_begin: Tick) -> bool {
        let waited = |dial: &&DialHead| dial.trigger.is_none() && dial.begin >= request_begin;
        if self.dial.as_ref().filter(waited).is_none() {
            return false;
        }
        let dial = &mut self.state().dial;
        let is_news = dial.served_request.is_none();
        if is_news {
            (dial.served_request, dial.is_for_trigger) = (Some(request), true);
        }
        is_news
    }

    /// Ends everything that is open, because the sink is closed. Nothing more begins.
    pub(crate) fn sink_closed(&self) {
        let now = self.core.now();
        let mut ended = 0;
        let mut state = self.state();
        state.sealed = true;
        // The connections first: one that is established meanwhile must not be so after the end of its dial.
        let mut latest = now;
        for conn in self.conns(&state) {
            let at = now.max(conn.latest());
            latest = latest.max(at);
            ended += u32::from(conn.end.end(at, &EndReason::SinkClosed, None));
            ended += u32::from(conn.socks_cut_off(now));
        }
        if let Some(dial) = &self.dial
            && dial.end.end(latest.max(dial.begin), &EndReason::SinkClosed, None)
        {
            ended += 1;
            state.dial.end_resolve(now);
        }
        let end = |at: Tick| End { at, reason: EndReason::SinkClosed, fault: None };
        for record in state.dns.iter_mut().filter(|record| record.end.is_none()) {
            record.end = Some(end(now.max_some(record.latest())));
            ended += 1;
        }
        for record in state.tls.iter_mut().filter(|record| record.end.is_none()) {
            record.end = Some(end(now.max(record.latest())));
            ended += 1;
        }
        for dial in state.dial.resolver_dials.iter_mut().filter(|dial| dial.end.is_none()) {
            dial.end = Some(end(now.max(dial.begin)));
            ended += 1;
        }
        drop(state);
        (0..ended).for_each(|_| self.record_ended());
    }

    /// Returns how far the dial has come. Empty unless the connection was established for the request that caused the
    /// dial: a request that fails before it was given a connection came no further, and one that was given another
    /// connection had no part in this one.
    pub(crate) fn path(&self) -> ConnPath {
        let state = self.state();
        let Some(conn) = state.dial.established.filter(|_| state.dial.is_for_trigger) else {
            return ConnPath::default();
        };
        let established = self.conns(&state).find(|record| record.id == Some(conn));
        established.map_or_else(ConnPath::default, ConnRecord::path)
    }

    /// Returns the name of the proxy that the dial leads to.
    pub(crate) fn proxy(&self) -> Option<&Text> {
        self.dial.as_ref()?.proxy.as_deref()
    }

    /// Returns what went wrong with the dial, or with a tunnel over its connection.
    #[cfg(feature = "_record_requests")]
    pub(crate) fn fault(&self) -> Option<FailureDetail> {
        let dial = self.dial.as_ref().and_then(|dial| dial.end.fault().cloned());
        dial.or_else(|| self.tunnel_fault())
    }

    #[cfg(feature = "_record_requests")]
    pub(crate) fn tunnel_fault(&self) -> Option<FailureDetail> {
        self.state().tls.iter().find_map(|tls| tls.fault.clone())
    }

    /// Returns `true` if there is a dial, and a time limit ended it.
    #[cfg(feature = "resolve")]
    pub(in crate::sink) fn has_timed_out(&self) -> bool {
        let end = self.dial.as_ref().and_then(|dial| dial.end.get());
        end.is_some_and(|end| end.reason == EndReason::Timeout)
    }

    /// Records that the request which caused the dial has ended. The dial may have ended before.
    pub(crate) fn close_ctx(&self, at: Tick) {
        self.state().dial.close_ctx(at);
    }
}

impl fmt::Debug for DialGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.dial {
            Some(dial) => write!(f, "Dial({} to {})", self.core.id(dial.id), dial.destination.text()),
            None => f.write_str("Dial(none)"),
        }
    }
}

/// The place of a group in the registry. It is emptied when the group is evicted: a neighbour that is still in use
/// keeps the block, and must not keep the group.
pub(crate) struct GroupSlot(Mutex<Option<Arc<DialGroup>>>);

impl GroupSlot {
    pub(crate) fn group(&self) -> Option<Arc<DialGroup>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<DialGroup>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Evictable for GroupSlot {
    type Common = ();
    type Block = [crate::sync::OnceLock<Self>; CHUNK];

    /// A group for records outside any dial stays as long as somebody may begin another record in it.
    fn is_evictable(&self) -> bool {
        self.lock().as_ref().is_none_or(|group| {
            let in_use = group.dial.is_none() && Arc::strong_count(group) > 1;
            !in_use && !group.is_running() && group.retained.load(Acquire) == 0
        })
    }

    fn on_evict(slot: &Rec<Self>) {
        let Some(group) = slot.lock().take() else { return };
        let mut state = group.state();
        state.sealed = true;
        let udp = group.conns(&state).filter(|conn| conn.is_udp()).count();
        let (core, tcp) = (&group.core, group.conn_count(&state) - udp);
        core.ended_conns.fetch_sub(state.ended_conns as usize, Relaxed);
        core.budget.release(state.charged as usize);
        core.drop_counters.dials.fetch_add(u64::from(group.dial.is_some()), Relaxed);
        core.drop_counters.tcp_conns.fetch_add(tcp as u64, Relaxed);
        core.drop_counters.udp_conns.fetch_add(udp as u64, Relaxed);
        #[cfg(feature = "encrypted-dns")]
        {
            state.shared_dials().for_each(|group| group.release());
            state.dns.iter().filter_map(|dns| dns.carrier.as_deref()).for_each(DnsCarrier::release);
        }
    }
}
