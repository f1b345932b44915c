//! The state that all recorders of a sink share: its clock, its configuration, and whether it still records.

#[cfg(feature = "_record")]
use super::registry::IdAllocator;
use super::{
    budget::Budget,
    clock::{Clock, Tick},
    config::SinkConfig,
    conn::probe_data::ProbeData,
    evicted_traffic::EvictedTraffic,
    probe::Probe,
    record_id::RecordId,
    registry::{batch_alloc::BatchAlloc, shard::CachePadded},
    slice_queue::SliceQueue,
    snapshot::timeline::Timeline,
    subscriber::{FinishedRecord, RecordKind, Subscriber},
};
use crate::record::{EndReason, TraceId};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicU8, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant},
};

/// The part of a sink that recorders share.
///
/// Aligned so that what every operation reads is in other cache lines than what each record writes, the counts of its
/// `Arc` included.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Core {
    pub(crate) clock: Clock,
    pub(crate) config: SinkConfig,
    #[cfg(feature = "_record")]
    pub(crate) id_alloc: &'static IdAllocator,
    pub(crate) drop_counters: DropCounters,
    /// The number of finished connections that are kept, those to nameservers and failed attempts included.
    pub(crate) ended_conns: CachePadded<AtomicUsize>,
    /// The memory that finished records take.
    pub(super) budget: Budget,
    /// The bytes and connections of the requests that are kept longer than others.
    pub(super) kept_weight: KeptWeight,
    /// Counts of the evicted requests.
    pub(super) evicted_traffic: EvictedTraffic,
    /// Allocates the probe data of connections. Here because a connection reaches no more of the sink than this.
    pub(super) probe_data_alloc: BatchAlloc<Box<ProbeData>>,
    slice_queues: Vec<SliceQueue>,
    state: AtomicU8,
    /// The timeline of traces that are taken now. Kept, because each published record needs one.
    timeline: Mutex<Timeline>,
}

const ON: u8 = 0;
const OFF: u8 = 1;
const CLOSED: u8 = 2;

/// How many records were evicted to keep the bounds.
#[derive(Debug, Default)]
pub(crate) struct DropCounters {
    pub(crate) dials: AtomicU64,
    pub(crate) tcp_conns: AtomicU64,
    pub(crate) udp_conns: AtomicU64,
}

/// The bytes and connections with which a request or a dial group counts against the bounds of a sink.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Weight {
    pub(super) bytes: u32,
    /// The number of finished connections.
    pub(super) conns: u32,
}

impl Weight {
    pub(super) fn of_bytes(bytes: usize) -> Self {
        Weight { bytes: u32::try_from(bytes).unwrap_or(u32::MAX), conns: 0 }
    }
}

/// The sum of several [`Weight`]s.
#[derive(Debug, Default)]
pub(super) struct KeptWeight {
    bytes: AtomicUsize,
    conns: AtomicUsize,
}

impl KeptWeight {
    /// Replaces a weight by another one.
    pub(super) fn change(&self, before: Weight, after: Weight) {
        for (sum, before, after) in
            [(&self.bytes, before.bytes, after.bytes), (&self.conns, before.conns, after.conns)]
        {
            sum.fetch_add((after as usize).wrapping_sub(before as usize), Relaxed);
        }
    }

    #[cfg(feature = "_record")]
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    #[cfg(feature = "_record")]
    pub(super) fn conns(&self) -> usize {
        self.conns.load(Relaxed)
    }
}

impl Core {
    /// Creates the core of a sink. `fixed_bytes` of the memory budget are taken by what is not charged to it.
    pub(crate) fn new(config: SinkConfig, slice_queues: Vec<SliceQueue>, fixed_bytes: usize) -> Self {
        let clock = Clock::new();
        let timeline = Mutex::new(Timeline::new(&clock, clock.anchor));
        let probe_data_alloc = BatchAlloc::new(config.retention.connections);
        let budget = Budget::new(config.retention.bytes, fixed_bytes);
        Core {
            clock,
            config,
            slice_queues,
            budget,
            kept_weight: KeptWeight::default(),
            evicted_traffic: EvictedTraffic::default(),
            #[cfg(feature = "_record")]
            id_alloc: IdAllocator::of_process(),
            drop_counters: DropCounters::default(),
            ended_conns: CachePadded(AtomicUsize::new(0)),
            probe_data_alloc,
            state: AtomicU8::new(ON),
            timeline,
        }
    }

    #[inline]
    pub(crate) fn now(&self) -> Tick {
        self.clock.now()
    }

    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.state.load(Relaxed) == ON
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.load(Acquire) == CLOSED
    }

    pub(crate) fn set_on(&self, on: bool) {
        let (from, to) = if on { (OFF, ON) } else { (ON, OFF) };
        let _ = self.state.compare_exchange(from, to, Release, Relaxed);
    }

    /// Closes the sink. Returns `true` for the call that closed it.
    pub(crate) fn close(&self) -> bool {
        self.state.swap(CLOSED, Release) != CLOSED
    }

    /// Makes traces begin now.
    pub(crate) fn begin_anew(&self) {
        let timeline = Timeline::new(&self.clock, self.clock.anchor_now());
        *self.timeline.lock().unwrap_or_else(PoisonError::into_inner) = timeline;
        self.evicted_traffic.clear();
        for lost in [&self.drop_counters.dials, &self.drop_counters.tcp_conns, &self.drop_counters.udp_conns]
        {
            lost.store(0, Relaxed);
        }
    }

    pub(crate) fn timeline(&self) -> Timeline {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the identifier of a record in a trace; the empty one for `None`.
    pub(crate) fn id(&self, record: impl Into<Option<RecordId>>) -> TraceId {
        self.config.ids.id(record.into())
    }

    /// Returns `true` if a subscriber uses records of this kind that end for this reason. Must not be called under a
    /// lock.
    #[inline]
    pub(crate) fn is_published(&self, kind: RecordKind, reason: &EndReason) -> bool {
        let subscribers = &self.config.subscribers;
        !subscribers.is_empty() && !self.is_closed() && is_any_interested(subscribers, kind, reason)
    }

    /// Hands a finished record to the subscribers, unless the sink was closed meanwhile. Call it only if
    /// [`is_published`](Self::is_published) has returned `true` for the record, and not under a lock.
    #[cfg(feature = "_record_conns")]
    pub(crate) fn publish(&self, record: impl FnOnce(&Timeline) -> FinishedRecord) {
        self.publish_by(record, |subscriber, record| subscriber.finished(record));
    }

    /// Variant of [`publish`](Self::publish) that calls the subscribers by `hand_over`.
    pub(crate) fn publish_by(
        &self,
        record: impl FnOnce(&Timeline) -> FinishedRecord,
        hand_over: impl Fn(&dyn Subscriber, &FinishedRecord),
    ) {
        if self.is_closed() {
            return;
        }
        let record = record(&self.timeline());
        for subscriber in &self.config.subscribers {
            if catch_unwind(AssertUnwindSafe(|| hand_over(&**subscriber, &record))).is_err() {
                tracing::warn!(target: "nettrace", "a subscriber panicked; it was given {}", record.trace_id());
            }
        }
    }

    /// Returns the queues of the receivers of slices; none once the sink is closed.
    #[inline]
    pub(super) fn slice_queues(&self) -> &[SliceQueue] {
        if self.slice_queues.is_empty() || self.is_closed() { &[] } else { &self.slice_queues }
    }

    /// Waits until the receivers have the slices of all requests that ended before. Returns `false` if that takes longer
    /// than `timeout`.
    pub(super) fn flush(&self, timeout: Duration) -> bool {
        // `None` is beyond what the clock can show.
        let deadline = Instant::now().checked_add(timeout);
        let in_time = self.slice_queues.iter().filter(|queue| queue.flush(deadline));
        in_time.count() == self.slice_queues.len()
    }

    /// Returns the probes; none once the sink is closed.
    pub(crate) fn probes(&self) -> &[Arc<dyn Probe>] {
        if self.is_closed() { &[] } else { &self.config.probes }
    }
}

fn is_any_interested(subscribers: &[Arc<dyn Subscriber>], kind: RecordKind, reason: &EndReason) -> bool {
    subscribers.iter().any(|subscriber| {
        let answer = catch_unwind(AssertUnwindSafe(|| subscriber.is_interested(kind, reason)));
        answer.unwrap_or_else(|_| {
            tracing::warn!(target: "nettrace", "a subscriber panicked when asked for its interest in {kind:?}");
            false
        })
    })
}
