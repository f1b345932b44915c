//! The records of a sink, kept within the bounds of its [`Retention`].
//!
//! Requests are in one [`Registry`], dial groups (a dial with its connections, lookups and TLS handshakes) in another.
//! A registry evicts the oldest records first, a chunk of [`CHUNK`](registry::CHUNK) at a time. A record of that chunk
//! that is still running, or that another record needs, becomes a *survivor*: it stays until a sweep finds that it can
//! go.
//!
//! Requests that are worth keeping, such as failed ones, are not evicted with their chunk. They have a list of their own in
//! the registry, may take half of each bound, and are evicted from there, oldest first.
//!
//! A request needs the groups that it refers to. If so many groups survive for this reason that there are too many
//! connections, more requests are evicted, and the groups that only they needed with them.

#[cfg(feature = "_record")]
use super::clock::Tick;
#[cfg(any(feature = "resolve", feature = "tls"))]
use super::context;
#[cfg(feature = "_record")]
use super::registry;
#[cfg(feature = "_record_conns")]
use super::registry::{IdAllocator, batch_alloc::BatchAlloc};
#[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
use super::stall_watch::StallWatch;
use super::{
    config::Retention,
    core::Core,
    dial::group::{DialGroup, GroupSlot},
    registry::{Pinned, Registry},
    request::record::{RequestRecord, RequestRef},
};
use crate::record::Dropped;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// All records that a sink keeps.
#[derive(Debug)]
pub(super) struct RetainedRecords {
    pub(super) core: Arc<Core>,
    requests: Registry<RequestRecord>,
    groups: Registry<GroupSlot>,
    #[cfg(feature = "_record_conns")]
    pub(super) group_alloc: BatchAlloc<Arc<DialGroup>>,
    /// Numbers the groups in order. A group is not a record of a trace, so these numbers appear in no trace.
    #[cfg(feature = "_record_conns")]
    group_ids: IdAllocator,
    #[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
    stall_watch: std::sync::OnceLock<StallWatch>,
}

impl RetainedRecords {
    pub(super) fn new(core: Core) -> Self {
        let core = Arc::new(core);
        let Retention { requests, connections, .. } = core.config.retention;
        RetainedRecords {
            requests: Registry::new(requests, core.clone()),
            groups: Registry::new(connections, ()),
            #[cfg(feature = "_record_conns")]
            group_alloc: BatchAlloc::new(connections),
            #[cfg(feature = "_record_conns")]
            group_ids: IdAllocator::new(),
            #[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
            stall_watch: std::sync::OnceLock::new(),
            core,
        }
    }

    #[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
    pub(super) fn watch_stalls(self: &Arc<Self>) {
        let after = self.core.config.stalled_after.filter(|_| !self.core.config.probes.is_empty());
        let records = Arc::downgrade(self);
        let requests = move || {
            let records = records.upgrade().filter(|records| !records.core.is_closed())?;
            Some(records.pin_requests())
        };
        if let Some(watch) = after.and_then(|after| StallWatch::start(after, requests)) {
            self.stall_watch.get_or_init(|| watch);
        }
    }

    /// Adds the request that `new` creates, and evicts others if that exceeds the bounds.
    #[cfg(feature = "_record_requests")]
    #[inline]
    pub(super) fn add_request(&self, new: impl FnOnce() -> RequestRecord) -> RequestRef {
        let (record, is_new_chunk) = self.requests.add(self.core.id_alloc, new);
        if is_new_chunk || self.core.budget.is_exceeded() {
            self.evict_excess();
        }
        RequestRef { record }
    }

    /// Adds a dial group, and evicts others if that exceeds the bounds.
    #[cfg(feature = "_record_conns")]
    pub(super) fn add_group(&self, group: Arc<DialGroup>) {
        let (slot, is_new_chunk) = self.groups.add(&self.group_ids, || GroupSlot::new(group));
        if is_new_chunk || self.core.budget.is_exceeded() {
            self.evict_excess();
        }
        if self.core.is_closed()
            && let Some(group) = slot.group()
        {
            // `TraceSink::close` may have run since the caller checked, without having seen this group.
            group.sink_closed();
        }
    }

    /// Returns the group of the dial in whose poll this is called, if it records into the same sink.
    #[cfg(any(feature = "resolve", feature = "tls"))]
    pub(super) fn current_group(&self) -> Option<Arc<DialGroup>> {
        context::current_dial().filter(|group| Arc::ptr_eq(&group.core, &self.core))
    }

    /// Adds a group for records outside any dial.
    #[cfg(any(feature = "resolve", feature = "server", feature = "tls"))]
    pub(super) fn new_group(&self) -> Arc<DialGroup> {
        let group = DialGroup::allocate(&self.group_alloc, &self.core, None);
        self.add_group(group.clone());
        group
    }

    /// Returns the requests that are kept now.
    pub(super) fn pin_requests(&self) -> Pinned<RequestRecord> {
        self.requests.pin()
    }

    /// Returns a handle of each request that is kept now.
    pub(super) fn requests(&self) -> impl Iterator<Item = RequestRef> {
        self.requests.collect().into_iter().map(|record| RequestRef { record })
    }

    /// Returns the dial groups that are kept now.
    pub(super) fn groups(&self) -> Vec<Arc<DialGroup>> {
        self.groups.pin().iter().filter_map(|(_, slot)| slot.group()).collect()
    }

    /// Evicts everything that has ended.
    pub(super) fn clear(&self) {
        self.requests.clear();
        self.groups.clear();
    }

    /// Returns how many records were evicted; `None` if none were. `socket_ops` is the number of operations that the
    /// connections of the trace have lost.
    pub(super) fn dropped(&self, socket_ops: u64) -> Option<Dropped> {
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let dropped = Dropped {
            http_requests: self.requests.dropped(),
            by_host: self.core.evicted_traffic.by_host(),
            dials: count(&self.core.drop_counters.dials),
            tcp_conns: count(&self.core.drop_counters.tcp_conns),
            udp_conns: count(&self.core.drop_counters.udp_conns),
            socket_ops,
        };
        (!dropped.is_empty()).then_some(dropped)
    }
}

#[cfg(feature = "_record")]
impl RetainedRecords {
    /// Evicts the oldest records until the bounds hold. Runs once per chunk, and when the byte budget is exceeded.
    #[cold]
    fn evict_excess(&self) {
        self.evict_aged();
        self.evict_excess_kept();
        let Retention { requests, connections, .. } = self.core.config.retention;
        let ended_conns = || self.core.ended_conns.load(Relaxed);
        // `listed` is an upper bound: it counts a chunk that is being filled as full.
        let recent = requests.saturating_sub(self.requests.kept_count());
        while self.requests.listed() > recent.saturating_add(registry::CHUNK)
            && self.requests.evict_oldest_full()
        {}
        while (self.groups.listed() > connections.saturating_add(registry::CHUNK)
            || ended_conns() > connections)
            && self.groups.evict_oldest_full()
        {}
        if ended_conns() > connections {
            self.groups.sweep_survivors();
        }
        // If there are still too many, requests need them. Frees a sixteenth more than required, so that this does not
        // run again soon. Eight chunks of requests share the cost of one sweep.
        let enough = if ended_conns() > connections { connections - connections / 16 } else { usize::MAX };
        let mut before = usize::MAX;
        while ended_conns() > enough && ended_conns() < before {
            before = ended_conns();
            let evicted = (0..8).filter(|_| self.requests.evict_oldest_full()).count();
            self.evict_excess_kept();
            self.groups.sweep_survivors();
            if evicted == 0 {
                break;
            }
        }
        if self.core.budget.is_limited() && self.core.budget.is_due(self.fixed_bytes()) {
            self.evict_over_budget();
        }
    }

    /// Evicts requests that are kept longer than others, until they take no more than half of each bound: first those
    /// that were merely slow, then the oldest.
    fn evict_excess_kept(&self) {
        let Retention { requests, connections, bytes, .. } = self.core.config.retention;
        let is_excess = || {
            let kept = self.requests.kept_count();
            let taken = self.core.kept_weight.bytes() + kept * RequestRecord::FIXED_BYTES;
            kept > requests / 2 || self.core.kept_weight.conns() > connections / 2 || taken > bytes / 2
        };
        while is_excess() && self.requests.evict_kept(RequestRecord::is_merely_slow) {}
    }

    /// Evicts what began longer ago than [`Retention::max_age`].
    pub(super) fn evict_aged(&self) {
        let Some(age) = self.core.config.retention.max_age else { return };
        let now = self.core.now();
        let is_aged =
            |begin: Option<Tick>| begin.is_some_and(|begin| self.core.clock.between(begin, now) > age);
        while self.requests.peek_newest_of_oldest(|request| is_aged(Some(request.begin))) == Some(true)
            && self.requests.evict_oldest_chunk()
        {}
        // Some of those are kept longer than others only now.
        while self.requests.peek_kept(|request| is_aged(Some(request.begin))) == Some(true)
            && self.requests.evict_kept(|_| false)
        {}
        let group_begin = |slot: &GroupSlot| slot.group().and_then(|group| group.begin_at());
        while self.groups.peek_newest_of_oldest(|slot| is_aged(group_begin(slot))) == Some(true)
            && self.groups.evict_oldest_chunk()
        {}
        self.groups.sweep_survivors();
    }

    /// Evicts the oldest requests and connections, in the order in which they began, until a sixteenth of the byte
    /// budget is free. Records that are still running stay, and so do the groups that they refer to.
    fn evict_over_budget(&self) {
        let budget = &self.core.budget;
        let used = || self.fixed_bytes().saturating_add(budget.charged());
        let limit = budget.limit();
        if used() > limit {
            let enough = limit - limit / 16;
            while used() > enough {
                let before = used();
                // A sweep visits every survivor, so the more there are, the more chunks are evicted before it.
                let batch = (self.groups.survivor_count() / (4 * registry::CHUNK)).max(4);
                let mut evicted = 0;
                while evicted < batch && used() > enough && self.evict_oldest_chunk() {
                    evicted += 1;
                }
                self.evict_excess_kept();
                // Evicts the groups that only the evicted requests referred to.
                self.groups.sweep_survivors();
                if evicted == 0 && used() >= before {
                    break;
                }
            }
        }
        budget.settle(self.fixed_bytes());
    }

    /// Evicts the oldest chunk of requests or the oldest chunk of groups, whichever began first. Returns `false` if
    /// there is neither.
    fn evict_oldest_chunk(&self) -> bool {
        let request = self.requests.peek_oldest(|request| request.begin);
        // A group in which nothing has begun has no time. `None` is less than any time, so it counts as the oldest.
        let group = self.groups.peek_oldest(|slot| slot.group().and_then(|group| group.begin_at()));
        match (request, group) {
            (None, None) => false,
            (Some(request), Some(group)) if group <= Some(request) => self.groups.evict_oldest_chunk(),
            (None, Some(_)) => self.groups.evict_oldest_chunk(),
            (Some(_), _) => self.requests.evict_oldest_chunk(),
        }
    }

    /// Returns the bytes that the listed requests are assumed to take at least. They count against the byte budget.
    /// What a request takes beyond that is charged when it ends.
    fn fixed_bytes(&self) -> usize {
        (self.requests.listed() + self.requests.kept_count()) * RequestRecord::FIXED_BYTES
    }
}

impl Drop for RetainedRecords {
    /// Breaks the links between requests, such as `prevHop`, so that a long chain is not dropped recursively.
    fn drop(&mut self) {
        for request in self.requests.collect() {
            request.set_evicted();
            RequestRecord::break_links(&request);
        }
    }
}
