//! What happens to a request that a sink does not keep among the recent ones any more: it is kept longer, or counted and
//! evicted.

use super::{
    extras::linked_groups,
    record::{RequestRecord, RequestRef},
};
use crate::{
    record::{EndReason, Text, Timings},
    sink::{
        clock::{AtomicTick, Tick},
        core::{Core, Weight},
        registry::{Evictable, Rec, end::End},
        slice_filter::{Choice, RequestOutcome},
        snapshot::builder,
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
            && core.evicted_traffic.is_slow(&record.host(), duration);
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

    fn is_counted(request: &Rec<Self>) -> bool {
        request.common().config.retention.count_evicted && !request.is_connect()
    }

    /// Counts the request among the evicted traffic of its host.
    fn count(request: &Rec<Self>) {
        if let Some(end) = request.end.get() {
            count(&RequestRef { record: request.clone() }, &end);
        }
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

/// Counts a request that has ended among the evicted traffic of its host.
fn count(request: &RequestRef, end: &End) {
    let record: &RequestRecord = &request.record;
    let has_dialed = record.with_links(|_, links| links.is_some_and(|links| links.dials().next().is_some()));
    // The phases of a dial take the records of its connection.
    let timings = if has_dialed {
        let slice = builder::slice(request);
        let found = slice.http_requests.get(request.core().id(request.record_id()));
        found.map(|found| found.timings(&slice)).unwrap_or_default()
    } else {
        record.timings_without_dial(request.core(), end)
    };
    let failure = end.fault.as_ref().map(|fault| &fault.failure);
    let status = if record.response_head.get().is_some() { record.status.load(Relaxed) } else { 0 };
    let traffic = &request.core().evicted_traffic;
    traffic.add(&record.host(), &timings, &end.reason, failure, status, record.is_conn_reused());
}

impl RequestRecord {
    /// Returns the durations of the phases of a request that made no dial: what
    /// [`HttpReqTrace::timings`](crate::record::HttpReqTrace::timings) returns for its record.
    fn timings_without_dial(&self, core: &Core, end: &End) -> Timings {
        let seen = |what: &AtomicTick| what.get().filter(|at| *at <= end.at);
        // Each time is rounded, and not each duration: so the durations are those between the times in a trace.
        let since_start = |at: Tick| core.clock.between(core.clock.anchor.tick, at);
        let span =
            |from: Option<Tick>, to: Option<Tick>| Some(since_start(to?).saturating_sub(since_start(from?)));
        let acquired = seen(&self.conn_acquired);
        let body_end = if self.has_body { seen(&self.body_end) } else { acquired };
        let (response, response_end) = (seen(&self.response_head), seen(&self.response_end));
        let end_at = Some(end.at);
        let had_one = body_end.into_iter().chain(response).min();
        let blocked_until =
            if acquired.is_none() && had_one.is_some() { None } else { acquired.or(had_one).or(end_at) };
        let is_body_unobserved = self.received.load(Relaxed) == 0
            && self.decoded.load(Relaxed) <= 1
            && response_end.is_none()
            && matches!(end.reason, EndReason::Closed | EndReason::Unobserved);
        Timings {
            blocked: span(Some(self.begin), blocked_until),
            send: span(acquired, had_one.or(end_at)),
            wait: span(body_end, response.or(end_at)),
            receive: span(response, response_end.or(end_at)).filter(|_| !is_body_unobserved),
            total: span(Some(self.begin), end_at),
            ..Timings::default()
        }
    }

    /// Returns the host and port of the URL, with `served` before it for an accepted request.
    fn host(&self) -> Text {
        let host = self.url.host();
        if self.accepted { Text::concat(["served ", host]) } else { host.into() }
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
