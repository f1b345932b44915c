//! The records of a sink, kept within the bounds of its [`Retention`].
//!
//! Requests and dial groups are evicted separately, the oldest first. A group stays as long as a request that is kept
//! refers to it: where too many connections are left that way, more requests are evicted, each with its groups.

use super::{
    config::Retention,
    core::Core,
    dial::group::{DialGroup, GroupSlot},
    registry::{self, Evictable, IdAllocator, Pinned, Registry, batch_alloc::BatchAlloc},
    request::record::{RequestRecord, RequestRef},
};
use crate::record::{Dropped, NetTrace};
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
    pub(super) group_alloc: BatchAlloc<Arc<DialGroup>>,
    /// Orders the groups, which are not records and have no identifier in a trace.
    group_ids: IdAllocator,
}

impl RetainedRecords {
    pub(super) fn new(core: Core) -> Self {
        let core = Arc::new(core);
        let Retention { requests, connections, .. } = core.config.retention;
        RetainedRecords {
            requests: Registry::new(requests, core.clone()),
            groups: Registry::new(connections, ()),
            group_alloc: BatchAlloc::new(connections),
            group_ids: IdAllocator::new(),
            core,
        }
    }

    /// Adds the request that `new` creates, and evicts others if that exceeds the bounds.
    #[inline]
    pub(super) fn add_request(&self, new: impl FnOnce() -> RequestRecord) -> RequestRef {
        let (record, is_new_chunk) = self.requests.add(self.core.id_alloc, new);
        if is_new_chunk || self.core.budget.is_exceeded() {
            self.evict_excess();
        }
        RequestRef { record }
    }

    /// Adds a dial group, and evicts others if that exceeds the bounds.
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

    /// Returns how many records were evicted, and how many operations of the connections in `trace` were dropped;
    /// `None` if nothing was.
    pub(super) fn dropped(&self, trace: &NetTrace) -> Option<Dropped> {
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        let of_tcp = trace.tcp_conns.iter().filter_map(|conn| conn.socket_trace.as_ref());
        let of_udp = trace.udp_conns.iter().filter_map(|conn| conn.socket_trace.as_ref());
        let dropped = Dropped {
            http_requests: self.requests.dropped(),
            dials: count(&self.core.drop_counters.dials),
            tcp_conns: count(&self.core.drop_counters.tcp_conns),
            udp_conns: count(&self.core.drop_counters.udp_conns),
            socket_ops: of_tcp.chain(of_udp).map(|ops| ops.dropped_ops).sum(),
        };
        (!dropped.is_empty()).then_some(dropped)
    }

    /// Evicts the oldest records until the bounds hold. Runs once in 32 records, and when the byte budget is exceeded.
    #[cold]
    fn evict_excess(&self) {
        let Retention { requests, connections, .. } = self.core.config.retention;
        let ended_conns = || self.core.ended_conns.load(Relaxed);
        while self.requests.listed() > requests.saturating_add(registry::CHUNK)
            && self.requests.evict_oldest()
        {}
        while (self.groups.listed() > connections.saturating_add(registry::CHUNK)
            || ended_conns() > connections)
            && self.groups.evict_oldest()
        {}
        if ended_conns() > connections {
            self.groups.sweep_kept();
        }
        // What is left is kept by requests. Frees a sixteenth more than needed, so that this does not run again soon.
        let enough = if ended_conns() > connections { connections - connections / 16 } else { usize::MAX };
        let mut before = usize::MAX;
        while ended_conns() > enough && ended_conns() < before {
            before = ended_conns();
            let evicted = (0..8).filter(|_| self.requests.evict_oldest()).count();
            self.groups.sweep_kept();
            if evicted == 0 {
                break;
            }
        }
        if self.core.budget.is_limited() && self.core.budget.is_due(self.fixed_bytes()) {
            self.evict_over_budget();
        }
    }

    /// Evicts the oldest requests and connections, in the order in which they began, until a sixteenth of the byte
    /// budget is free. Keeps what is still running, and what that refers to.
    fn evict_over_budget(&self) {
        let budget = &self.core.budget;
        let used = || self.fixed_bytes().saturating_add(budget.charged());
        let limit = budget.limit();
        if used() > limit {
            let enough = limit - limit / 16;
            while used() > enough {
                let before = used();
                // A sweep visits all connections that outlived their chunk: the more of them, the rarer the sweeps.
                let batch = (self.groups.kept() / (4 * registry::CHUNK)).max(4);
                let mut evicted = 0;
                while evicted < batch && used() > enough && self.evict_oldest() {
                    evicted += 1;
                }
                // Evicts the groups that only the evicted requests referred to.
                self.groups.sweep_kept();
                if evicted == 0 && used() >= before {
                    break;
                }
            }
        }
        budget.settle(self.fixed_bytes());
    }

    /// Evicts the oldest chunk of either kind. Returns `false` if there is none to evict.
    fn evict_oldest(&self) -> bool {
        let request = self.requests.oldest(|request| request.begin);
        let group = self.groups.oldest(|slot| slot.group().and_then(|group| group.begin_at()));
        match (request, group) {
            (None, None) => false,
            (Some(request), Some(group)) if group <= Some(request) => self.groups.evict_any(),
            (None, Some(_)) => self.groups.evict_any(),
            (Some(_), _) => self.requests.evict_any(),
        }
    }

    /// Returns how many bytes of the budget the listed requests take without being charged.
    fn fixed_bytes(&self) -> usize {
        self.requests.listed() * RequestRecord::FIXED_BYTES
    }
}

impl Drop for RetainedRecords {
    /// Breaks the links between requests, so that a long chain of them is not dropped recursively.
    fn drop(&mut self) {
        self.requests.collect().iter().for_each(|record| record.on_evict(&self.core));
    }
}
