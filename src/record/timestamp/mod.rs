//! Times in a trace, in the notation of the Go package `nettrace`.
//!
//! Records have times relative to the begin of the trace. Times before it, such as those of a kept-alive connection,
//! are absolute. `text` parses and prints both.

use std::cmp::Ordering;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod text;

pub use text::ParseTimestampError;
pub(crate) use text::with_precise_times;

/// A time in a trace: relative to the trace's begin, absolute, or undefined.
///
/// Relative times have nanoseconds. JSON and [`Display`](fmt::Display) show whole milliseconds, rounded down (`+72ms`).
/// [`NetTrace::precise`](super::NetTrace::precise) and the alternate form `{:#}` show all digits (`+72.431907ms`).
/// Absolute times are written as RFC 3339, with the offset and the number of fraction digits with which they were read.
/// A time that does not exist is `undefined`.
///
/// Two absolute times are equal if they are the same instant, whatever their offset.
#[derive(Clone, Copy, Default)]
pub struct Timestamp(Repr);

#[derive(Clone, Copy, Default)]
enum Repr {
    #[default]
    Undefined,
    /// Nanoseconds since the trace began.
    Relative(u64),
    Absolute(Absolute),
}

/// An instant and its RFC 3339 notation.
#[derive(Clone, Copy)]
struct Absolute {
    /// Seconds since 1970-01-01T00:00:00Z, within the years 0 to 9999.
    seconds: i64,
    nanos: u32,
    /// The offset from UTC in minutes, positive to the east.
    offset_minutes: i16,
    /// The number of fraction digits, 0 to 9, or [`SHORTEST`].
    digits: u8,
    zone: Zone,
}

/// Stands for as few fraction digits as are needed, like in Go.
const SHORTEST: u8 = u8::MAX;

/// The notation of the offset.
#[derive(Clone, Copy)]
enum Zone {
    Z,
    Numeric,
    /// An offset of zero, written `-00:00`.
    NegativeZero,
}

impl Timestamp {
    /// The undefined time: of an event that did not happen or was not observed.
    pub const UNDEFINED: Timestamp = Timestamp(Repr::Undefined);

    /// Creates a time from nanoseconds since the trace began.
    pub const fn relative(nanos: u64) -> Self {
        Timestamp(Repr::Relative(nanos))
    }

    /// Creates an absolute time in UTC from nanoseconds since 1970, negative before.
    ///
    /// Times that RFC 3339 cannot express, before the year 0 or after 9999, become the nearest that it can.
    pub fn from_unix_nanos(nanos: i128) -> Self {
        Timestamp(Repr::Absolute(Absolute::EPOCH.with_unix_nanos(nanos)))
    }

    /// Returns `true` if the time is undefined.
    pub const fn is_undefined(&self) -> bool {
        matches!(self.0, Repr::Undefined)
    }

    /// Returns `true` if the time is relative to the begin of the trace.
    pub const fn is_relative(&self) -> bool {
        matches!(self.0, Repr::Relative(_))
    }

    /// Returns `true` if the time is absolute.
    pub const fn is_absolute(&self) -> bool {
        matches!(self.0, Repr::Absolute(_))
    }

    /// Returns the nanoseconds since the trace began, or `None` if the time is not relative.
    pub const fn relative_nanos(&self) -> Option<u64> {
        match self.0 {
            Repr::Relative(nanos) => Some(nanos),
            _ => None,
        }
    }

    /// Returns the nanoseconds since 1970-01-01T00:00:00Z, or `None` if the time is not absolute.
    pub const fn unix_nanos(&self) -> Option<i128> {
        match self.0 {
            Repr::Absolute(absolute) => Some(absolute.unix_nanos()),
            _ => None,
        }
    }

    /// Returns the absolute time, or `None` if the time is not absolute or the system cannot represent it.
    pub fn to_system_time(&self) -> Option<SystemTime> {
        let nanos = self.unix_nanos()?;
        let distance = duration(nanos.unsigned_abs());
        if nanos < 0 {
            SystemTime::UNIX_EPOCH.checked_sub(distance)
        } else {
            SystemTime::UNIX_EPOCH.checked_add(distance)
        }
    }

    /// Adds a relative time.
    ///
    /// An absolute and a relative time make an absolute one with the same offset, two relative times a relative one.
    /// Any other sum is undefined.
    ///
    /// For example, `trace.trace_begin_at.add(record.conn_close_at)` is the absolute time at which a connection closed.
    #[must_use]
    pub fn add(&self, relative: Timestamp) -> Timestamp {
        Timestamp(match (self.0, relative.0) {
            (Repr::Absolute(base), Repr::Relative(nanos)) | (Repr::Relative(nanos), Repr::Absolute(base)) => {
                let sum = base.unix_nanos() + i128::from(nanos);
                Repr::Absolute(Absolute { digits: SHORTEST, ..base }.with_unix_nanos(sum))
            }
            (Repr::Relative(a), Repr::Relative(b)) => Repr::Relative(a.saturating_add(b)),
            _ => Repr::Undefined,
        })
    }

    /// Returns the nanoseconds from `other` to this time, negative if `other` is later.
    ///
    /// Returns `None` unless both are relative or both are absolute. Differences of more than 292 years saturate.
    #[must_use]
    pub fn sub(&self, other: Timestamp) -> Option<i64> {
        let nanos = match (self.0, other.0) {
            (Repr::Relative(a), Repr::Relative(b)) => i128::from(a) - i128::from(b),
            (Repr::Absolute(a), Repr::Absolute(b)) => a.unix_nanos() - b.unix_nanos(),
            _ => return None,
        };
        Some(nanos.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    }

    /// Returns the time from this to `now` as a relative time, zero if this is later. Undefined unless both are
    /// absolute or both are relative.
    #[must_use]
    pub fn elapsed_at(&self, now: impl Into<Timestamp>) -> Timestamp {
        match now.into().sub(*self) {
            Some(nanos) => Timestamp::relative(nanos.max(0) as u64),
            None => Timestamp::UNDEFINED,
        }
    }

    /// Returns the duration from `earlier` to this time, zero if `earlier` is later. Returns `None` unless both are
    /// relative or both are absolute.
    #[must_use]
    pub fn since(&self, earlier: Timestamp) -> Option<Duration> {
        self.sub(earlier).map(|nanos| Duration::from_nanos(nanos.max(0) as u64))
    }
}

impl Absolute {
    const EPOCH: Absolute =
        Absolute { seconds: 0, nanos: 0, offset_minutes: 0, digits: SHORTEST, zone: Zone::Z };

    const fn unix_nanos(&self) -> i128 {
        self.seconds as i128 * 1_000_000_000 + self.nanos as i128
    }

    /// Returns another instant in the same notation.
    fn with_unix_nanos(self, nanos: i128) -> Self {
        let local = i128::from(self.offset_minutes) * 60_000_000_000;
        let nanos = nanos.saturating_add(local).clamp(text::FIRST_NANOS, text::LAST_NANOS) - local;
        Self {
            seconds: nanos.div_euclid(1_000_000_000) as i64,
            nanos: nanos.rem_euclid(1_000_000_000) as u32,
            ..self
        }
    }
}

fn duration(nanos: u128) -> Duration {
    Duration::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32)
}

impl From<SystemTime> for Timestamp {
    /// Converts to an absolute time in UTC.
    fn from(time: SystemTime) -> Self {
        Timestamp::from_unix_nanos(match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => after.as_nanos() as i128,
            Err(before) => -(before.duration().as_nanos() as i128),
        })
    }
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl Eq for Timestamp {}

impl PartialOrd for Timestamp {
    /// Orders earlier times before later ones. A relative and an absolute time do not compare.
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self.0, other.0) {
            (Repr::Undefined, Repr::Undefined) => Some(Ordering::Equal),
            (Repr::Relative(a), Repr::Relative(b)) => Some(a.cmp(&b)),
            (Repr::Absolute(a), Repr::Absolute(b)) => Some(a.unix_nanos().cmp(&b.unix_nanos())),
            _ => None,
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#}")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        text::serialize(*self, serializer)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let time: Timestamp = text::deserialize(deserializer)?;
        #[cfg(feature = "_store")]
        let time = match time.0 {
            Repr::Relative(nanos) => Timestamp::relative(super::relocation::relative_nanos(nanos)),
            Repr::Undefined | Repr::Absolute(_) => time,
        };
        Ok(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abs(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_timestamp_takes_sixteen_bytes() {
        assert_eq!(size_of::<Timestamp>(), 16);
    }

    #[test]
    fn times_can_be_added_if_one_is_relative() {
        let begin = abs("2022-12-23T10:17:45.260618344+01:00");
        let end = begin.add(Timestamp::relative(1_241_000_000));
        assert_eq!(end.to_string(), "2022-12-23T10:17:46.501618344+01:00");
        assert_eq!(Timestamp::relative(1_241_000_000).add(begin), end);
        assert_eq!(Timestamp::relative(1).add(Timestamp::relative(2)), Timestamp::relative(3));
        assert_eq!(Timestamp::relative(u64::MAX).add(Timestamp::relative(2)), Timestamp::relative(u64::MAX));
        assert!(begin.add(begin).is_undefined());
        assert!(begin.add(Timestamp::UNDEFINED).is_undefined());
        assert!(Timestamp::UNDEFINED.add(Timestamp::relative(1)).is_undefined());
        // The sum has as many digits as it needs, even if the base has fewer.
        assert_eq!(
            abs("2023-01-01T00:00:00Z").add(Timestamp::relative(1_500_000)).to_string(),
            "2023-01-01T00:00:00.0015Z"
        );
    }

    #[test]
    fn sums_beyond_the_calendar_are_clamped() {
        for last in ["9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999+23:59"] {
            assert_eq!(abs(last).add(Timestamp::relative(u64::MAX)).to_string(), last);
        }
        for far in [i128::MAX / 4, i128::MIN / 4] {
            let text = Timestamp::from_unix_nanos(far).to_string();
            assert_eq!(abs(&text).to_string(), text);
        }
    }

    #[test]
    fn only_times_of_the_same_kind_have_a_difference() {
        let (a, b) = (Timestamp::relative(3), Timestamp::relative(5));
        assert_eq!((a.sub(b), b.sub(a)), (Some(-2), Some(2)));
        let (a, b) = (abs("2023-01-01T00:00:00Z"), abs("2023-01-01T02:00:01+02:00"));
        assert_eq!((a.sub(b), b.sub(a)), (Some(-1_000_000_000), Some(1_000_000_000)));
        assert_eq!(a.sub(Timestamp::relative(0)), None);
        assert_eq!(a.sub(Timestamp::UNDEFINED), None);
        assert_eq!(Timestamp::UNDEFINED.sub(Timestamp::UNDEFINED), None);
        assert_eq!(Timestamp::relative(0).sub(Timestamp::relative(u64::MAX)), Some(i64::MIN));
        assert_eq!(abs("9999-01-01T00:00:00Z").sub(abs("0001-01-02T00:00:00Z")), Some(i64::MAX));
        assert_eq!(a.since(b), Some(Duration::ZERO));
        assert_eq!(b.since(a), Some(Duration::from_secs(1)));
    }

    #[test]
    fn elapsed_times_are_relative() {
        let (a, b) = (abs("2023-01-01T00:00:00Z"), abs("2023-01-01T00:00:00.25Z"));
        assert_eq!(a.elapsed_at(b), Timestamp::relative(250_000_000));
        assert_eq!(b.elapsed_at(a), Timestamp::relative(0));
        assert_eq!(Timestamp::relative(1).elapsed_at(Timestamp::relative(4)), Timestamp::relative(3));
        assert!(a.elapsed_at(Timestamp::relative(4)).is_undefined());
        assert!(Timestamp::UNDEFINED.elapsed_at(b).is_undefined());
        assert!(!a.elapsed_at(SystemTime::now()).is_undefined());
    }

    #[test]
    fn only_times_of_the_same_kind_are_ordered() {
        assert!(Timestamp::relative(1) < Timestamp::relative(2));
        assert!(abs("2023-01-01T00:00:00Z") < abs("2023-01-01T00:00:00.1Z"));
        assert_eq!(abs("2023-01-01T01:00:00+01:00"), abs("2023-01-01T00:00:00.000Z"));
        assert_eq!(Timestamp::relative(1).partial_cmp(&abs("2023-01-01T00:00:00Z")), None);
        assert_eq!(Timestamp::UNDEFINED, Timestamp::default());
    }

    #[test]
    fn system_times_survive_a_round_trip() {
        for time in [
            SystemTime::now(),
            SystemTime::UNIX_EPOCH,
            SystemTime::UNIX_EPOCH - Duration::from_nanos(1),
            SystemTime::UNIX_EPOCH - Duration::from_secs(3_000_000_000),
        ] {
            let stamp = Timestamp::from(time);
            assert_eq!(stamp.to_system_time(), Some(time));
            assert_eq!(abs(&stamp.to_string()), stamp);
        }
        assert_eq!(Timestamp::relative(1).to_system_time(), None);
    }
}
