//! Ends requests. Each request ends once, and is then handed to the subscribers.

use super::{
    extras::Tried,
    record::{FirstConn, RequestRecord, RequestRef},
};
#[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
use crate::sink::probe::ProbeEvent;
use crate::{
    error::FailureDetail,
    record::EndReason,
    sink::{
        clock::Tick,
        conn::conn_ref::ConnLink,
        finished_request::FinishedRequest,
        slice::Slice,
        slice_filter::{Choice, RequestOutcome},
        slice_queue::PendingSlice,
        snapshot::{builder, to_record},
        subscriber::{FinishedRecord, RecordKind},
    },
};
use smallvec::SmallVec;
use std::sync::atomic::Ordering::Relaxed;

impl RequestRef {
    /// Ends the request. Returns `true` for the call that ended it.
    pub(crate) fn end(&self, reason: EndReason, fault: Option<FailureDetail>) -> bool {
        self.is_open() && self.end_at(self.core().now(), reason, fault)
    }

    pub(super) fn end_at(&self, now: Tick, reason: EndReason, fault: Option<FailureDetail>) -> bool {
        let (core, record): (_, &RequestRecord) = (self.core(), &self.record);
        let now = now.max(record.latest());
        let Some(ending) = record.end.begin_end() else { return false };
        let has_conn = !matches!(record.conn.get_or_init(|| FirstConn::Never), FirstConn::Never);
        if ending.has_links() {
            let mut links = record.lock();
            links.dials().for_each(|dial| dial.close_ctx(now));
            if let Some(extras) = &mut links.extras {
                extras.stale = extras.tried.iter().map(Tried::failure).collect();
            }
            // With a response the request had a connection, whether it is known or not.
            let had_conn = has_conn || record.response_head.get().is_some();
            let own_dial = links.dial.as_ref().filter(|_| !had_conn);
            if let Some(path) = own_dial.map(|dial| dial.path()).filter(|path| path.conn.is_some()) {
                links.extras_mut().path = path;
            }
            core.budget.charge(record.charge(Some(&links), fault.as_ref()));
        } else {
            core.budget.charge(record.charge(None, fault.as_ref()));
        }
        #[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
        let has_failed = fault.is_some();
        // Held before others see the end: a request that has ended can be evicted.
        let slices = self.pending_slices(now, &reason);
        ending.finish(now, &reason, fault);
        #[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
        if has_failed {
            record.show_conn_to_probes(ProbeEvent::RequestFailed);
        }
        slices.into_iter().for_each(PendingSlices::hand_over);
        if core.is_published(RecordKind::HttpRequest, &reason) {
            self.publish();
        }
        true
    }

    /// Holds the request for the receivers that are to have its slice, if there are any.
    #[inline]
    fn pending_slices(&self, end: Tick, reason: &EndReason) -> Option<PendingSlices> {
        if self.core().slice_queues().is_empty() { None } else { self.hold_slices(end, reason) }
    }

    #[cold]
    fn hold_slices(&self, end: Tick, reason: &EndReason) -> Option<PendingSlices> {
        let (core, record): (_, &RequestRecord) = (self.core(), &self.record);
        let outcome = RequestOutcome {
            id: self.record_id(),
            reason,
            status: record.status.load(Relaxed),
            // It is recorded plus one.
            grpc_status: record.grpc_status.load(Relaxed).checked_sub(1),
            duration: core.clock.between(record.begin, end),
        };
        let choices = core.slice_queues().iter().map(|queue| queue.choose(&outcome));
        let pending = choices.enumerate().filter(|(_, choice)| *choice != Choice::Rejected);
        let pending = pending.filter_map(|(queue, choice)| Some((queue, choice, HeldRequest::new(self)?)));
        let pending: SmallVec<_> = pending.collect();
        (!pending.is_empty()).then(|| PendingSlices(pending))
    }

    fn publish(&self) {
        let record: &RequestRecord = &self.record;
        let peer_addr = record.with_links(|conn, _| conn.and_then(ConnLink::peer_addr));
        let trace = || builder::slice(self);
        let timings = || self.timings();
        let is_conn_reused = record.is_conn_reused();
        self.core().publish_by(
            |times| FinishedRecord::HttpRequest(to_record::request(self, times)),
            |subscriber, finished| {
                if let FinishedRecord::HttpRequest(record) = finished {
                    let request = FinishedRequest {
                        record,
                        peer_addr,
                        is_conn_reused,
                        trace: &trace,
                        timings: &timings,
                    };
                    subscriber.finished_request(finished, &request);
                }
            },
        );
    }
}

/// A request for each receiver that is to have its slice, with the index of the receiver's queue.
struct PendingSlices(SmallVec<[(usize, Choice, HeldRequest); 1]>);

impl PendingSlices {
    fn hand_over(self) {
        for (queue, choice, request) in self.0 {
            let core = request.0.core().clone();
            if let Some(queue) = core.slice_queues().get(queue) {
                queue.add(Box::new(request), choice);
            }
        }
    }
}

/// A request that is not evicted as long as this exists.
struct HeldRequest(RequestRef);

impl HeldRequest {
    /// Returns `None` if the request was evicted.
    fn new(request: &RequestRef) -> Option<Self> {
        request.add_follower().then(|| HeldRequest(request.clone()))
    }
}

impl PendingSlice for HeldRequest {
    fn slice(&self) -> Option<Slice> {
        Slice::new(self.0.core().id(self.0.record_id()), builder::slice(&self.0))
    }

    fn choose(&self) {
        self.0.record.choose();
    }
}

impl Drop for HeldRequest {
    fn drop(&mut self) {
        self.0.remove_follower();
    }
}
