//! Converts ticks of the sink's clock to timestamps.

use crate::record::Timestamp;

/// The conversion of ticks to nanoseconds: `(ticks - origin) * mult / 2^32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TickScale {
    /// The tick at nanosecond 0. Earlier ticks count as this one.
    pub(crate) origin_ticks: u64,
    /// Nanoseconds per tick, times 2^32.
    pub(crate) mult: u64,
}

impl TickScale {
    /// The scale of a clock whose ticks are nanoseconds.
    #[cfg(test)]
    pub(crate) const NANOS: TickScale = TickScale { origin_ticks: 0, mult: 1 << 32 };

    pub(crate) fn nanos(&self, ticks: u64) -> u64 {
        let elapsed = u128::from(ticks.saturating_sub(self.origin_ticks));
        u64::try_from((elapsed * u128::from(self.mult)) >> 32).unwrap_or(u64::MAX)
    }
}

/// The clock of one trace, which turns ticks into timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceClock {
    /// The conversion of ticks to nanoseconds.
    pub(crate) scale: TickScale,
    /// When the trace began, in nanoseconds of the scale.
    pub(crate) begin_nanos: u64,
    /// When the trace began, in nanoseconds since 1970.
    pub(crate) begin_unix_nanos: i128,
}

/// The largest relative time that the Go package can read: 2^32 - 1 milliseconds, 49 days.
const MAX_RELATIVE_NANOS: u64 = u32::MAX as u64 * 1_000_000 + 999_999;

impl TraceClock {
    /// Returns the time of a tick: relative to the begin of the trace, or absolute if it is before the begin or more
    /// than [`MAX_RELATIVE_NANOS`] after it.
    pub(crate) fn timestamp(&self, ticks: u64) -> Timestamp {
        let nanos = self.scale.nanos(ticks);
        match nanos.checked_sub(self.begin_nanos) {
            Some(relative @ ..=MAX_RELATIVE_NANOS) => Timestamp::relative(relative),
            _ => {
                let since_begin = i128::from(nanos) - i128::from(self.begin_nanos);
                Timestamp::from_unix_nanos(self.begin_unix_nanos.saturating_add(since_begin))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_scaled_to_nanoseconds() {
        // 2.6 GHz, halved: a tick is 1/1.3 ns.
        let scale = TickScale { origin_ticks: 1_000, mult: (1u128 << 32).div_ceil(13) as u64 * 10 };
        assert_eq!(scale.nanos(1_000), 0);
        assert_eq!(scale.nanos(0), 0);
        assert_eq!(scale.nanos(1_300_001_000), 1_000_000_000);
        assert_eq!(TickScale { origin_ticks: 0, mult: u64::MAX }.nanos(u64::MAX), u64::MAX);
        assert_eq!(TickScale::NANOS.nanos(u64::MAX), u64::MAX);
    }

    #[test]
    fn times_before_the_trace_and_long_after_are_absolute() {
        let clock = TraceClock {
            scale: TickScale::NANOS,
            begin_nanos: 5_000_000_000,
            begin_unix_nanos: 1_700_000_000_000_000_000,
        };
        assert_eq!(clock.timestamp(5_000_000_000), Timestamp::relative(0));
        assert_eq!(
            clock.timestamp(5_000_000_000 + MAX_RELATIVE_NANOS),
            Timestamp::relative(MAX_RELATIVE_NANOS)
        );
        assert_eq!(Timestamp::relative(MAX_RELATIVE_NANOS).to_string(), "+4294967295ms");
        assert_eq!(clock.timestamp(4_500_000_000).to_string(), "2023-11-14T22:13:19.5Z");
        assert_eq!(
            clock.timestamp(5_000_000_001 + MAX_RELATIVE_NANOS).to_string(),
            "2024-01-03T15:16:07.296Z"
        );
        assert!(clock.timestamp(u64::MAX).is_absolute());
    }
}
