//! What every recorder of a sink shares: its clock, its configuration, and whether it still records.

use super::{
    Probe,
    budget::Budget,
    clock::{Anchor, Clock, Tick},
    config::{Retention, SinkConfig},
    conn::probe_data::ProbeData,
    registry::{IdAllocator, batch_alloc::BatchAlloc, shard::CachePadded},
    request::record::RequestRecord,
    subscriber::FinishedRecord,
};
use crate::record::{TickScale, Timestamp, TraceClock, TraceId};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicU8, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::UNIX_EPOCH,
};

/// What every operation reads lies apart from what each record writes, the counts of its `Arc` included.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Core {
    pub(crate) clock: Clock,
    pub(crate) config: SinkConfig,
    pub(crate) id_alloc: &'static IdAllocator,
    pub(crate) drop_counters: DropCounters,
    /// Connections that are kept although they have ended, those to nameservers and failed attempts included.
    pub(crate) ended_conns: CachePadded<AtomicUsize>,
    /// What has ended, by its weight.
    pub(super) budget: Budget,
    /// Here, as a connection reaches no more of the sink.
    pub(super) probe_data_alloc: BatchAlloc<Box<ProbeData>>,
    state: AtomicU8,
    epoch: Mutex<Anchor>,
}

const ON: u8 = 0;
const OFF: u8 = 1;
const CLOSED: u8 = 2;

/// What went to keep the bounds.
#[derive(Debug, Default)]
pub(crate) struct DropCounters {
    pub(crate) dials: AtomicU64,
    pub(crate) tcp_conns: AtomicU64,
    pub(crate) udp_conns: AtomicU64,
}

impl Core {
    pub(crate) fn new(config: SinkConfig) -> Self {
        let clock = Clock::new();
        let epoch = Mutex::new(clock.anchor);
        let probe_data_alloc = BatchAlloc::new(config.retention.connections);
        let Retention { requests, bytes, .. } = config.retention;
        let budget = Budget::new(bytes, requests.saturating_mul(RequestRecord::FIXED_BYTES));
        Core {
            clock,
            config,
            budget,
            id_alloc: IdAllocator::of_process(),
            drop_counters: DropCounters::default(),
            ended_conns: CachePadded(AtomicUsize::new(0)),
            probe_data_alloc,
            state: AtomicU8::new(ON),
            epoch,
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

    /// True for the call that closed it.
    pub(crate) fn close(&self) -> bool {
        self.state.swap(CLOSED, Release) != CLOSED
    }

    /// The traces to come begin now.
    pub(crate) fn begin_anew(&self) {
        *self.epoch.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.anchor_now();
        for lost in [&self.drop_counters.dials, &self.drop_counters.tcp_conns, &self.drop_counters.udp_conns]
        {
            lost.store(0, Relaxed);
        }
    }

    pub(crate) fn timeline(&self) -> Timeline {
        Timeline::new(&self.clock, *self.epoch.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn id(&self, number: u64) -> TraceId {
        self.config.ids.id(number)
    }

    /// Whether a record that has ended is wanted by anybody.
    pub(crate) fn has_subscribers(&self) -> bool {
        !self.config.subscribers.is_empty() && !self.is_closed()
    }

    /// Hands a record that has ended to the subscribers. Must not be called under a lock.
    pub(crate) fn publish(&self, record: impl FnOnce(&Timeline) -> FinishedRecord) {
        if !self.has_subscribers() {
            return;
        }
        let record = record(&self.timeline());
        for subscriber in &self.config.subscribers {
            if catch_unwind(AssertUnwindSafe(|| subscriber.finished(&record))).is_err() {
                tracing::warn!(target: "nettrace", "a subscriber panicked; it was given {}", record.trace_id());
            }
        }
    }

    /// The probes that still look.
    pub(crate) fn probes(&self) -> &[Arc<dyn Probe>] {
        if self.is_closed() { &[] } else { &self.config.probes }
    }
}

/// Turns clock readings into the timestamps of one trace.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    pub(crate) clock: Arc<TraceClock>,
    begin: Tick,
}

impl Timeline {
    fn new(clock: &Clock, epoch: Anchor) -> Self {
        let scale = TickScale { origin_ticks: clock.anchor.tick.0, mult: clock.nanos_per_tick() };
        let begin_unix_nanos = match epoch.wall.duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_nanos() as i128,
            Err(before) => -(before.duration().as_nanos() as i128),
        };
        let clock = Arc::new(TraceClock { scale, begin_nanos: scale.nanos(epoch.tick.0), begin_unix_nanos });
        Timeline { clock, begin: epoch.tick }
    }

    /// Relative to the begin of the trace; absolute before it, and past what the peer can read (2^32 ms).
    pub(crate) fn at(&self, tick: Tick) -> Timestamp {
        if tick.is_some() { self.clock.timestamp(tick.0) } else { Timestamp::UNDEFINED }
    }

    pub(crate) fn begin(&self) -> Timestamp {
        Timestamp::from_unix_nanos(self.clock.begin_unix_nanos)
    }

    /// Whether that was before the trace began.
    pub(crate) fn is_before(&self, tick: Tick) -> bool {
        tick < self.begin
    }

    #[cfg(any(test, loom))]
    pub(crate) fn test() -> Self {
        let clock = Clock::new();
        Timeline::new(&clock, clock.anchor)
    }
}
