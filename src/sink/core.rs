//! What every recorder of a sink shares: its clock, its settings, and whether it still records.

use super::{
    clock::{Anchor, Clock, Tick},
    registry::Numbers,
    settings::Settings,
    subscriber::FinishedRecord,
};
use crate::record::{Timestamp, TraceId};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{
            AtomicU8, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) clock: Clock,
    pub(crate) settings: Settings,
    pub(crate) numbers: Numbers,
    pub(crate) lost: Lost,
    /// Connections in the records kept, to nameservers included.
    pub(crate) connections: AtomicUsize,
    state: AtomicU8,
    epoch: Mutex<Anchor>,
}

const ON: u8 = 0;
const OFF: u8 = 1;
const CLOSED: u8 = 2;

/// What went to keep the bounds.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    pub(crate) dials: AtomicU64,
    pub(crate) tcp_conns: AtomicU64,
    pub(crate) udp_conns: AtomicU64,
}

impl Core {
    pub(crate) fn new(settings: Settings) -> Self {
        let clock = Clock::new();
        let epoch = Mutex::new(clock.anchor);
        Core {
            clock,
            settings,
            numbers: Numbers::new(),
            lost: Lost::default(),
            connections: AtomicUsize::new(0),
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
        for lost in [&self.lost.dials, &self.lost.tcp_conns, &self.lost.udp_conns] {
            lost.store(0, Relaxed);
        }
    }

    pub(crate) fn timeline(&self) -> Timeline {
        let epoch = *self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        Timeline { epoch, nanos_per_tick: self.clock.nanos_per_tick() }
    }

    pub(crate) fn id(&self, number: u64) -> TraceId {
        self.settings.ids.id(number)
    }

    /// Hands a record that has ended to the subscribers. Must not be called under a lock.
    pub(crate) fn publish(&self, record: impl FnOnce() -> Option<FinishedRecord>) {
        if self.settings.subscribers.is_empty() || self.is_closed() {
            return;
        }
        let Some(record) = record() else { return };
        for subscriber in &self.settings.subscribers {
            if catch_unwind(AssertUnwindSafe(|| subscriber.finished(&record))).is_err() {
                tracing::warn!(target: "nettrace", "a subscriber panicked; it was given {}", record.trace_id());
            }
        }
    }
}

/// Turns clock readings into the timestamps of one trace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeline {
    pub(crate) epoch: Anchor,
    pub(crate) nanos_per_tick: u64,
}

impl Timeline {
    /// Relative to the begin of the trace; absolute before it, and past what the peer can read (2^32 ms).
    pub(crate) fn at(&self, tick: Tick) -> Timestamp {
        const LIMIT: u64 = (u32::MAX as u64 + 1) * 1_000_000;
        if !tick.is_some() {
            return Timestamp::default();
        }
        if tick < self.epoch.tick {
            let before = Duration::from_nanos(self.nanos(self.epoch.tick.0 - tick.0));
            return Timestamp::from(self.epoch.wall.checked_sub(before).unwrap_or(self.epoch.wall));
        }
        match self.nanos(tick.0 - self.epoch.tick.0) {
            nanos if nanos < LIMIT => Timestamp::relative(nanos),
            nanos => Timestamp::from(self.epoch.wall + Duration::from_nanos(nanos)),
        }
    }

    pub(crate) fn begin(&self) -> Timestamp {
        Timestamp::from(self.epoch.wall)
    }

    fn nanos(&self, ticks: u64) -> u64 {
        u64::try_from((u128::from(ticks) * u128::from(self.nanos_per_tick)) >> 32).unwrap_or(u64::MAX)
    }
}
