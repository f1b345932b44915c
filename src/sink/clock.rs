//! The monotonic clock of a sink, and the moment that ties it to the wall clock.

use std::{
    num::NonZeroU64,
    sync::atomic::{AtomicU64, Ordering},
    time::SystemTime,
};

/// A reading of the clock. A tick is about a nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(NonZeroU64);

impl Tick {
    /// Returns the reading with this number of ticks. Zero, which no clock shows, becomes one.
    #[inline]
    pub(crate) const fn from_ticks(ticks: u64) -> Self {
        match NonZeroU64::new(ticks) {
            Some(ticks) => Tick(ticks),
            None => Tick(NonZeroU64::MIN),
        }
    }

    #[inline]
    pub(crate) const fn get(self) -> u64 {
        self.0.get()
    }

    /// Returns the later of the two readings.
    #[inline]
    pub(crate) fn max_some(self, other: Option<Tick>) -> Self {
        other.map_or(self, |other| self.max(other))
    }
}

/// An `Option<Tick>` that one thread writes while others read it.
///
/// A thread that reads a tick also sees what the writer wrote before it.
#[derive(Debug, Default)]
pub(crate) struct AtomicTick(AtomicU64);

impl AtomicTick {
    #[cfg(feature = "reqwest")]
    pub(crate) fn new(tick: Tick) -> Self {
        AtomicTick(AtomicU64::new(tick.get()))
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<Tick> {
        NonZeroU64::new(self.0.load(Ordering::Acquire)).map(Tick)
    }

    #[cfg(any(feature = "connect", feature = "request"))]
    #[inline]
    pub(crate) fn set(&self, tick: Tick) {
        self.0.store(tick.get(), Ordering::Release);
    }

    #[cfg(feature = "_record_requests")]
    #[inline]
    pub(crate) fn clear(&self) {
        self.0.store(0, Ordering::Release);
    }
}

/// The time-stamp counter of the processor if it is dependable, otherwise the system's monotonic clock.
#[derive(Debug)]
pub(crate) struct Clock {
    source: quanta::Clock,
    /// How many bits readings are shifted to the right, so that a tick is about a nanosecond and operations pack well.
    shift: u32,
    /// Nanoseconds per tick, as a fraction of 2^32.
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
        let anchor = Anchor { tick: Tick::from_ticks(source.raw() >> shift), wall: SystemTime::now() };
        let mut clock = Clock { source, shift, mult: per_tick << shift, anchor };
        clock.anchor = clock.anchor_now();
        clock
    }

    #[inline]
    pub(crate) fn now(&self) -> Tick {
        #[cfg(all(feature = "_bench", debug_assertions))]
        READINGS.set(READINGS.get() + 1);
        Tick::from_ticks(self.source.raw() >> self.shift)
    }

    /// Returns the present moment, as closely as both clocks can be read at once.
    pub(crate) fn anchor_now(&self) -> Anchor {
        let read = || {
            let (before, wall) = (self.now(), SystemTime::now());
            (self.now().get().saturating_sub(before.get()), Anchor { tick: before, wall })
        };
        let others = (1..8).map(|_| read());
        others.fold(read(), |closest, next| if next.0 < closest.0 { next } else { closest }).1
    }

    /// Returns the present moment. Reads the clocks again if the thread was interrupted between the readings.
    #[cfg(all(feature = "timestamping", target_os = "linux"))]
    pub(crate) fn anchor_in_passing(&self) -> Anchor {
        /// Far above what both readings take.
        const MAX_TICKS: u64 = 2_000;
        let (before, wall, tick) = (self.now(), SystemTime::now(), self.now());
        if tick.get().saturating_sub(before.get()) <= MAX_TICKS {
            return Anchor { tick, wall };
        }
        self.anchor_now()
    }

    /// Returns the reading that was taken this long before another one.
    #[cfg(all(feature = "timestamping", target_os = "linux"))]
    pub(crate) fn before(&self, tick: Tick, age: std::time::Duration) -> Tick {
        let ticks = (age.as_nanos() << 32) / u128::from(self.mult.max(1));
        Tick::from_ticks(tick.get().saturating_sub(u64::try_from(ticks).unwrap_or(u64::MAX)))
    }

    pub(crate) fn between(&self, begin: Tick, end: Tick) -> std::time::Duration {
        std::time::Duration::from_nanos(self.nanos_between(begin, end))
    }

    pub(crate) fn nanos_between(&self, begin: Tick, end: Tick) -> u64 {
        let ticks = u128::from(end.get().saturating_sub(begin.get()));
        u64::try_from((ticks * u128::from(self.mult)) >> 32).unwrap_or(u64::MAX)
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
    fn ticks_agree_with_the_system_clock() {
        let clock = Clock::new();
        // The thread may be preempted between two readings: the ticks enclose `inner` and are within `outer`.
        let outer = Instant::now();
        let begin = clock.now();
        let inner = Instant::now();
        while inner.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        let inner = inner.elapsed();
        let ticks = clock.between(begin, clock.now());
        let outer = outer.elapsed();
        assert!(
            ticks > inner.mul_f64(0.95) && ticks < outer.mul_f64(1.05),
            "{inner:?}, {ticks:?}, {outer:?}"
        );
    }

    #[test]
    fn an_optional_tick_takes_no_extra_space() {
        assert_eq!(size_of::<Option<Tick>>(), size_of::<u64>());
    }
}
