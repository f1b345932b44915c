//! [`Histogram`]: how often a duration occurred, in buckets.
//!
//! Its buckets are fixed, so that histograms of different times and processes add up. It is far smaller than those of
//! the `hdrhistogram` crate, of which a sink would need several hundred: at most 1 KiB for durations up to 10 minutes,
//! compared with 36 KiB.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::time::Duration;

/// How often durations occurred, counted in buckets whose bounds are at most an eighth apart.
///
/// Durations below 8 µs are distinguished by the microsecond.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The number of durations in each bucket, as far as the last bucket that has one.
    counts: Vec<u32>,
    sum_nanos: u64,
}

/// A bucket of a [`Histogram`] in which there are durations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct Bucket {
    /// The durations of the bucket are shorter than this, in nanoseconds, and not shorter than those of the one before.
    pub below_ns: u64,
    /// The number of durations in the bucket.
    pub count: u64,
}

/// Durations are counted in units of 2^10 nanoseconds.
const UNIT_BITS: u32 = 10;
/// A power of two is divided into 2^3 buckets.
const SUB_BITS: u32 = 3;
const SUBS: u64 = 1 << SUB_BITS;

impl Histogram {
    /// Counts a duration.
    pub fn add(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.add_count(bucket_of(nanos), 1);
        self.sum_nanos = self.sum_nanos.saturating_add(nanos);
    }

    fn add_count(&mut self, bucket: usize, count: u32) {
        if count == 0 {
            return; // the last bucket always has a duration
        }
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] = self.counts[bucket].saturating_add(count);
    }

    /// Adds all durations of another histogram.
    pub fn merge(&mut self, other: &Histogram) {
        for (bucket, count) in other.counts.iter().enumerate() {
            self.add_count(bucket, *count);
        }
        self.sum_nanos = self.sum_nanos.saturating_add(other.sum_nanos);
    }

    /// Returns the number of durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// Returns `true` if no duration was counted.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// Returns the sum of all durations.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos)
    }

    /// Returns the buckets in which there are durations, in order.
    pub fn buckets(&self) -> impl Iterator<Item = Bucket> {
        let counts = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counts.map(|(bucket, count)| Bucket { below_ns: upper_bound(bucket), count: u64::from(*count) })
    }

    /// Returns the upper bound of the bucket below which there are `percent` of the durations; `None` if there are none.
    pub fn percentile(&self, percent: u8) -> Option<Duration> {
        let rank = (self.count() * u64::from(percent)).div_ceil(100).max(1);
        let mut seen = 0;
        let bucket = self.buckets().find(|bucket| {
            seen += bucket.count;
            seen >= rank
        });
        bucket.map(|bucket| Duration::from_nanos(bucket.below_ns))
    }
}

fn bucket_of(nanos: u64) -> usize {
    let units = nanos >> UNIT_BITS;
    let bits = units.checked_ilog2().unwrap_or(0);
    let bucket = match bits.checked_sub(SUB_BITS) {
        None => units,
        Some(shift) => u64::from(shift + 1) * SUBS + (units >> shift) - SUBS,
    };
    bucket as usize
}

/// Returns the lowest duration in nanoseconds that is too long for a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let next = bucket as u64 + 1;
    let (shift, units) = match (next / SUBS).checked_sub(1) {
        None => (0, next),
        Some(shift) => (shift, SUBS + next % SUBS),
    };
    let bits = u32::try_from(shift).unwrap_or(u32::MAX).saturating_add(UNIT_BITS);
    u64::try_from(u128::from(units) << bits.min(64)).unwrap_or(u64::MAX)
}

/// A histogram in JSON.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Json {
    sum_ns: u64,
    buckets: Vec<Bucket>,
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Json { sum_ns: self.sum_nanos, buckets: self.buckets().collect() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Json { sum_ns, buckets } = Json::deserialize(deserializer)?;
        let mut histogram = Histogram::default();
        for Bucket { below_ns, count } in buckets {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            histogram.add_count(bucket_of(below_ns.saturating_sub(1)), count);
        }
        if !histogram.is_empty() {
            histogram.sum_nanos = sum_ns;
        }
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_are_at_most_an_eighth_apart() {
        let mut below = 0;
        for bucket in 0..bucket_of(u64::MAX) {
            let bound = upper_bound(bucket);
            assert!(bound > below, "{bucket}");
            assert!(bound - below <= 1_024.max(below / 8), "{bucket}: {below} to {bound}");
            assert_eq!((bucket_of(below), bucket_of(bound - 1)), (bucket, bucket));
            below = bound;
        }
        assert_eq!(upper_bound(bucket_of(u64::MAX)), u64::MAX);
    }

    #[test]
    fn percentiles_are_upper_bounds() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.percentile(50), histogram.is_empty()), (None, true));
        (1..=100).for_each(|ms| histogram.add(Duration::from_millis(ms)));
        for percent in [1, 50, 90, 99, 100] {
            let exact = Duration::from_millis(percent.into());
            let bound = histogram.percentile(percent).unwrap();
            assert!(bound > exact && bound <= exact.mul_f64(1.125), "{percent}: {bound:?}");
        }
        assert_eq!((histogram.count(), histogram.sum()), (100, Duration::from_millis(5_050)));
    }

    #[test]
    fn a_bucket_without_durations_is_none() {
        let read = |json| serde_json::from_str::<Histogram>(json).unwrap();
        let histogram =
            read(r#"{"buckets": [{"belowNs": 2000, "count": 3}, {"belowNs": 5000000, "count": 0}]}"#);
        assert_eq!(histogram, read(r#"{"buckets": [{"belowNs": 2000, "count": 3}]}"#));
        let empty = read(r#"{"sumNs": 5000000, "buckets": [{"belowNs": 5000000}]}"#);
        assert_eq!((empty.is_empty(), empty), (true, Histogram::default()));
    }

    #[test]
    fn ten_minutes_take_a_kibibyte() {
        let mut histogram = Histogram::default();
        histogram.add(Duration::from_secs(600));
        assert!(histogram.counts.len() * size_of::<u32>() <= 1 << 10);
    }

    proptest! {
        #[test]
        fn histograms_survive_json_and_add_up(a in prop::collection::vec(any::<u64>(), 0..40), b in prop::collection::vec(0..10_000_000u64, 0..40)) {
            let of = |nanos: &[u64]| {
                let mut histogram = Histogram::default();
                nanos.iter().for_each(|nanos| histogram.add(Duration::from_nanos(*nanos)));
                histogram
            };
            let mut sum = of(&a);
            sum.merge(&of(&b));
            prop_assert_eq!(&sum, &of(&[a, b].concat()));
            let json = serde_json::to_string(&sum).unwrap();
            prop_assert_eq!(serde_json::from_str::<Histogram>(&json).unwrap(), sum);
        }
    }
}
