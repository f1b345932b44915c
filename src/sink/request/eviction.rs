//! What happens to a request that a sink does not keep among the recent ones any more: it is kept longer, or counted and
//! evicted.

use super::{
    extras::linked_groups,
    record::{RequestRecord, RequestRef},
};
use crate::{
    record::EndReason,
    sink::{
        core::{Core, Weight},
        evicted_traffic::Host,
        registry::{Evictable, Rec},
        slice_filter::{Choice, RequestOutcome},
    },
};
use std::sync::{
    Arc,
    atomic::Ordering::{Acquire, Relaxed},
};

impl Evictable for RequestRecord {
    type Common = Arc<Core>;
    type Block = [crate::sync::OnceLock<Self>; 1];

    fn is_evictable(&self) -> bool {
        !self.end.is_open() && self.followers.load(Acquire) == 0
    }

    /// Returns `true` if the request was chosen, failed or was slow, and marks it as kept. A CONNECT is kept with the
    /// request for which it was made.
    fn is_worth_keeping(request: &Rec<Self>) -> bool {
        let (core, record): (_, &RequestRecord) = (request.common(), request);
        let Some(end) = record.end.get() else { return false };
        let retention = &core.config.retention;
        let duration = core.clock.between(record.begin, end.at);
        let is_slow = retention.slowest
            && end.reason != EndReason::SinkClosed
            && core.evicted_traffic.is_slow(record.host(), duration);
        let outcome = RequestOutcome {
            id: request.id(),
            reason: &end.reason,
            status: record.status.load(Relaxed),
            grpc_status: record.grpc_status.load(Relaxed).checked_sub(1),
            duration,
        };
        let is_chosen = record.is_chosen() || retention.keep.choose(&outcome) == Choice::Chosen;
        let is_worthy = (is_slow || is_chosen) && !record.is_connect();
        if is_worthy {
            record.set_kept(!is_chosen);
            record.with_links(|conn, links| {
                linked_groups(conn, links).for_each(|group| group.add_kept_request());
                let weight = Weight::of_bytes(record.charge(links, record.end.fault()));
                core.kept_weight.change(Weight::default(), weight);
            });
        }
        is_worthy
    }

    /// Breaks the links of the request to others. A handle may still hold the record, which then keeps its
    /// connections, but the sink does not keep them for it.
    fn on_evict(request: &Rec<Self>) {
        let (core, record): (_, &RequestRecord) = (request.common(), request);
        if core.config.retention.count_evicted {
            count(&RequestRef { record: request.clone() });
        }
        let was_kept = record.set_evicted();
        let charged = record.with_links(|conn, links| {
            linked_groups(conn, links).for_each(|group| {
                if was_kept {
                    group.remove_kept_request();
                }
                group.release();
            });
            if record.end.is_open() { 0 } else { record.charge(links, record.end.fault()) }
        });
        if was_kept {
            core.kept_weight.change(Weight::of_bytes(charged), Weight::default());
        }
        core.budget.release(charged);
        Self::break_links(request);
    }
}

impl RequestRecord {
    /// Breaks the links to other requests.
    pub(in crate::sink) fn break_links(request: &Rec<Self>) {
        let kept = request.links().and_then(|mut links| {
            let extras = links.extras.as_mut()?;
            Some((extras.prev_hop.kept.take(), std::mem::take(&mut extras.connects)))
        });
        if let Some((hop, connects)) = kept {
            hop.into_iter().chain(connects).for_each(|other| other.remove_follower());
        }
    }
}

/// Counts a request that has ended among the evicted traffic of its host. A CONNECT counts with the request for which it
/// was made.
fn count(request: &RequestRef) {
    let record: &RequestRecord = &request.record;
    if record.is_connect() {
        return;
    }
    let Some(end) = record.end.get() else { return };
    let failure = end.fault.as_ref().map(|fault| &fault.failure);
    let status = if record.response_head.get().is_some() { record.status.load(Relaxed) } else { 0 };
    let traffic = &request.core().evicted_traffic;
    traffic.add(record.host(), &request.timings(), &end.reason, failure, status, record.is_conn_reused());
}

impl RequestRecord {
    fn host(&self) -> Host<'_> {
        Host { name: self.url.host(), is_served: self.accepted }
    }

    fn is_connect(&self) -> bool {
        self.links().is_some_and(|links| links.extras.as_ref().is_some_and(|extras| extras.is_connect))
    }

    /// Returns whether the connection had been open when the request was sent. `None` for accepted requests, and without
    /// a connection.
    pub(super) fn is_conn_reused(&self) -> Option<bool> {
        let established = self.with_links(|conn, _| conn.and_then(|conn| conn.established()));
        established.filter(|_| !self.accepted).map(|established| established < self.begin)
    }
}
