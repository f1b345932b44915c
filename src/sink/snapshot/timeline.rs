//! [`Timeline`]: converts clock readings into the timestamps of a trace.

use crate::{
    record::{TickScale, Timestamp, TraceClock},
    sink::clock::{Anchor, Clock, Tick},
};
use std::{sync::Arc, time::UNIX_EPOCH};

/// Converts clock readings into the timestamps of one trace.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    pub(crate) clock: Arc<TraceClock>,
    begin: Tick,
}

impl Timeline {
    /// Creates the timeline of a trace that starts at `epoch`. It may be later than the clock's anchor, from which
    /// ticks are scaled.
    pub(in crate::sink) fn new(clock: &Clock, epoch: Anchor) -> Self {
        let scale = TickScale { origin_ticks: clock.anchor.tick.get(), mult: clock.nanos_per_tick() };
        let begin_unix_nanos = match epoch.wall.duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_nanos() as i128,
            Err(before) => -(before.duration().as_nanos() as i128),
        };
        let clock =
            Arc::new(TraceClock { scale, begin_nanos: scale.nanos(epoch.tick.get()), begin_unix_nanos });
        Timeline { clock, begin: epoch.tick }
    }

    /// Returns the timestamp of a reading, relative to the start of the trace. Absolute if it is before the start, or
    /// too long after it for the Go package `nettrace` to read (2^32 ms).
    pub(crate) fn at(&self, tick: impl Into<Option<Tick>>) -> Timestamp {
        tick.into().map_or(Timestamp::UNDEFINED, |tick| self.clock.timestamp(tick.get()))
    }

    pub(crate) fn begin(&self) -> Timestamp {
        Timestamp::from_unix_nanos(self.clock.begin_unix_nanos)
    }

    /// Returns `true` if the reading was before the trace began.
    pub(crate) fn is_before(&self, tick: Tick) -> bool {
        tick < self.begin
    }

    #[cfg(any(test, loom))]
    pub(crate) fn test() -> Self {
        let clock = Clock::new();
        Timeline::new(&clock, clock.anchor)
    }
}
