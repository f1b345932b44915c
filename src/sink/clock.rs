//! The one monotonic clock of a sink, and its one anchor to the wall.

use std::time::SystemTime;

/// A reading of the clock. Zero is no reading at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(pub(crate) u64);

impl Tick {
    pub(crate) const NONE: Tick = Tick(0);

    pub(crate) fn is_some(self) -> bool {
        self.0 != 0
    }
}

/// The time-stamp counter where the processor has a dependable one, else the system's monotonic clock.
#[derive(Debug)]
pub(crate) struct Clock {
    source: quanta::Clock,
    /// Readings are shifted right by this, so that a tick is about a nanosecond and ops pack well.
    shift: u32,
    /// Nanoseconds a tick, as a fraction of 2^32.
    mult: u64,
    pub(crate) anchor: Anchor,
}

/// One moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anchor {
    pub(crate) tick: Tick,
    pub(crate) wall: SystemTime,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let source = quanta::Clock::new();
        let per_tick = source.delta_as_nanos(0, 1 << 32);
        let shift = u32::from(per_tick < 1 << 31);
        let mut clock = Clock {
            source,
            shift,
            mult: per_tick << shift,
            anchor: Anchor { tick: Tick::NONE, wall: SystemTime::now() },
        };
        clock.anchor = clock.anchor_now();
        clock
    }

    #[inline]
    pub(crate) fn now(&self) -> Tick {
        #[cfg(all(feature = "_bench", debug_assertions))]
        READINGS.set(READINGS.get() + 1);
        Tick((self.source.raw() >> self.shift).max(1))
    }

    /// This moment, as closely as both clocks can be read at once.
    pub(crate) fn anchor_now(&self) -> Anchor {
        let readings = (0..8).map(|_| (self.now(), SystemTime::now(), self.now()));
        let closest = readings.min_by_key(|(before, _, after)| after.0.saturating_sub(before.0));
        let (before, wall, _) = closest.unwrap_or_else(|| (self.now(), SystemTime::now(), Tick::NONE));
        Anchor { tick: before, wall }
    }

    #[cfg(any(test, all(unix, feature = "capture")))]
    pub(crate) fn between(&self, begin: Tick, end: Tick) -> std::time::Duration {
        let ticks = u128::from(end.0.saturating_sub(begin.0));
        std::time::Duration::from_nanos(
            u64::try_from((ticks * u128::from(self.mult)) >> 32).unwrap_or(u64::MAX),
        )
    }

    pub(crate) fn nanos_per_tick(&self) -> u64 {
        self.mult
    }
}

#[cfg(all(feature = "_bench", debug_assertions))]
thread_local!(static READINGS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });

/// Returns how often this thread has read the clock of any sink.
#[cfg(all(feature = "_bench", debug_assertions))]
pub(crate) fn readings() -> u64 {
    READINGS.get()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_tick_is_worth_what_the_system_clock_says() {
        let clock = Clock::new();
        let (t0, begin) = (Instant::now(), clock.now());
        while t0.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let nanos = clock.between(begin, clock.now()).as_nanos() as u64;
        let real = t0.elapsed().as_nanos() as u64;
        assert!(nanos > 19_000_000 && nanos < real * 2, "{nanos} against {real}");
    }
}
