//! Parsing and printing of a [`Timestamp`].

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Absolute, Repr, SHORTEST, Timestamp, Zone};
use crate::record::AsciiText;
use crate::scoped;

/// The first time that RFC 3339 can express, 0000-01-01T00:00:00Z, in nanoseconds since 1970.
pub(super) const FIRST_NANOS: i128 = -62_167_219_200 * 1_000_000_000;
/// The last time that RFC 3339 can express, 9999-12-31T23:59:59.999999999Z, in nanoseconds since 1970.
pub(super) const LAST_NANOS: i128 = 253_402_300_799 * 1_000_000_000 + 999_999_999;
/// Go's zero time, 0001-01-01T00:00:00Z, in nanoseconds since 1970. The Go package writes it for an undefined time.
const GO_ZERO_NANOS: i128 = -62_135_596_800 * 1_000_000_000;

const UNDEFINED: &str = "undefined";
const NANOS_PER_MS: u64 = 1_000_000;

thread_local! {
    /// Set while relative times are written with all their digits.
    static PRECISE: Cell<Option<()>> = const { Cell::new(None) };
}

/// Runs `f`. Relative times that it serializes are written with all their digits.
pub(crate) fn with_precise_times<R>(f: impl FnOnce() -> R) -> R {
    scoped::scope(&PRECISE, (), f)
}

pub(super) fn serialize<S: Serializer>(timestamp: Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    match timestamp.0 {
        Repr::Undefined => serializer.serialize_str(UNDEFINED),
        Repr::Relative(nanos) if PRECISE.get().is_none() => {
            serializer.serialize_str(whole_millis(nanos).as_str())
        }
        Repr::Relative(_) => serializer.collect_str(&format_args!("{timestamp:#}")),
        Repr::Absolute(_) => serializer.collect_str(&timestamp),
    }
}

/// Returns a relative time in whole milliseconds. A trace has a dozen times for each connection: formatted by `write!`
/// they take nearly half of the instructions of its JSON.
fn whole_millis(nanos: u64) -> AsciiText {
    let mut text = AsciiText::default();
    text.push(b"+");
    text.push(itoa::Buffer::new().format(nanos / NANOS_PER_MS).as_bytes());
    text.push(b"ms");
    text
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    struct Text;
    impl Visitor<'_> for Text {
        type Value = Timestamp;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(EXPECTED)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Timestamp, E> {
            text.parse().map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
        }

        fn visit_unit<E>(self) -> Result<Timestamp, E> {
            Ok(Timestamp::UNDEFINED)
        }
    }
    deserializer.deserialize_any(Text)
}

/// An error returned when a text is not a valid [`Timestamp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParseTimestampError;

const EXPECTED: &str = "a time: \"undefined\", milliseconds such as \"+72ms\", or RFC 3339";

impl fmt::Display for ParseTimestampError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not {EXPECTED}")
    }
}

impl std::error::Error for ParseTimestampError {}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    /// Parses every form that is written, precise ones included. The empty text and Go's zero time are undefined.
    /// Milliseconds beyond 64-bit nanoseconds (584 years) saturate.
    fn from_str(text: &str) -> Result<Self, ParseTimestampError> {
        if text.is_empty() || text == UNDEFINED {
            return Ok(Timestamp::UNDEFINED);
        }
        match text.strip_prefix('+') {
            Some(rest) => relative(rest).map(Timestamp::relative),
            None => absolute(text),
        }
        .ok_or(ParseTimestampError)
    }
}

/// Parses `72ms` or `72.431907ms`. Digits below the nanosecond are cut off.
fn relative(text: &str) -> Option<u64> {
    let number = text.strip_suffix("ms")?;
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(w, f)| (w, Some(f)));
    let all_digits = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !fraction.is_none_or(all_digits) {
        return None;
    }
    let nanos = fraction.unwrap_or("").bytes().chain(std::iter::repeat(b'0')).take(6);
    let nanos = nanos.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    // These are digits only, so parsing fails only if there are too many.
    let whole = whole.parse().unwrap_or(u64::MAX);
    Some(whole.saturating_mul(NANOS_PER_MS).saturating_add(nanos))
}

fn absolute(text: &str) -> Option<Timestamp> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let nanos = time.unix_timestamp_nanos();
    if nanos == GO_ZERO_NANOS {
        return Some(Timestamp::UNDEFINED);
    }
    let digits =
        text.split_once('.').map_or(0, |(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count());
    let sign = text.as_bytes().iter().rev().nth(5);
    let zone = match time.offset().whole_minutes() {
        _ if text.ends_with(['Z', 'z']) => Zone::Z,
        0 if sign == Some(&b'-') => Zone::NegativeZero,
        _ => Zone::Numeric,
    };
    let offset_minutes = time.offset().whole_minutes();
    let base = Absolute { offset_minutes, digits: digits.min(9) as u8, zone, ..Absolute::EPOCH };
    Some(Timestamp(Repr::Absolute(base.with_unix_nanos(nanos))))
}

impl fmt::Display for Timestamp {
    /// Prints the time as in JSON. The alternate form `{:#}` prints relative times with all their digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Repr::Undefined => f.write_str(UNDEFINED),
            Repr::Relative(nanos) if f.alternate() => {
                write!(f, "+{}.{:06}ms", nanos / NANOS_PER_MS, nanos % NANOS_PER_MS)
            }
            Repr::Relative(nanos) => f.write_str(whole_millis(nanos).as_str()),
            Repr::Absolute(absolute) => absolute.fmt(f),
        }
    }
}

impl Absolute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let local = self.seconds + i64::from(self.offset_minutes) * 60;
        let time = OffsetDateTime::from_unix_timestamp(local).map_err(|_| fmt::Error)?;
        let (year, month, day) = time.to_calendar_date();
        let (hour, minute, second) = time.to_hms();
        write!(f, "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", u8::from(month))?;
        self.fmt_fraction(f)?;
        let sign = match self.zone {
            Zone::Z => return f.write_str("Z"),
            Zone::NegativeZero => '-',
            Zone::Numeric if self.offset_minutes < 0 => '-',
            Zone::Numeric => '+',
        };
        let minutes = self.offset_minutes.unsigned_abs();
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }

    fn fmt_fraction(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut nanos, mut digits) = (self.nanos, 9);
        match self.digits {
            SHORTEST => {
                while digits > 0 && nanos % 10 == 0 {
                    (nanos, digits) = (nanos / 10, digits - 1);
                }
            }
            kept => {
                nanos /= 10u32.pow(9 - u32::from(kept));
                digits = usize::from(kept);
            }
        }
        if digits == 0 { Ok(()) } else { write!(f, ".{nanos:0digits$}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(text: &str) -> String {
        serde_json::from_value::<Timestamp>(text.into()).unwrap().to_string()
    }

    #[test]
    fn standard_forms_survive_a_round_trip() {
        for text in [
            "undefined",
            "+0ms",
            "+72ms",
            "+4294967295ms",
            "2026-11-23T13:27:02.946434109Z",
            "2026-11-23T13:27:02Z",
            "2026-11-23T13:27:02.5Z",
            "2026-11-23T13:27:02.500Z",
            "2026-11-23T13:27:02.000000000Z",
            "2026-11-23T13:27:02+00:00",
            "2026-11-23T13:27:02-00:00",
            "2022-12-23T10:17:45.260618344+01:00",
            "2022-12-23T10:17:45.26-05:45",
            "2022-01-01T00:30:00-00:30",
            "0000-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999999999Z",
            "9999-12-31T23:59:59.999999999Z",
            "9999-12-31T23:59:59-23:59",
            "0000-01-01T00:00:00+23:59",
        ] {
            assert_eq!(round_trip(text), text);
        }
    }

    #[test]
    fn other_forms_are_normalized() {
        for (text, written) in [
            ("", "undefined"),
            ("0001-01-01T00:00:00Z", "undefined"),
            ("0001-01-01T01:00:00.0+01:00", "undefined"),
            ("+0072ms", "+72ms"),
            ("+72.999999ms", "+72ms"),
            ("2026-11-23t13:27:02z", "2026-11-23T13:27:02Z"),
            ("2026-11-23T13:27:02.1234567899Z", "2026-11-23T13:27:02.123456789Z"),
        ] {
            assert_eq!(round_trip(text), written, "{text}");
        }
        assert!(serde_json::from_str::<Timestamp>("null").unwrap().is_undefined());
    }

    #[test]
    fn precise_times_have_nanoseconds() {
        for (text, nanos) in [
            ("+72.431907ms", 72_431_907),
            ("+72.4ms", 72_400_000),
            ("+0.0000019ms", 1),
            ("+18446744073709.551615ms", u64::MAX),
            ("+18446744073709.551616ms", u64::MAX),
            ("+18446744073709551615ms", u64::MAX),
            ("+99999999999999999999999999999999ms", u64::MAX),
        ] {
            let read: Timestamp = text.parse().unwrap();
            assert_eq!(read.relative_nanos(), Some(nanos), "{text}");
        }
        let time = Timestamp::relative(72_431_907);
        assert_eq!((format!("{time}"), format!("{time:#}")), ("+72ms".into(), "+72.431907ms".into()));
        assert_eq!(format!("{time:?}"), "+72.431907ms");
        assert_eq!(format!("{:#}", Timestamp::relative(72_000_000)), "+72.000000ms");
    }

    #[test]
    fn precision_ends_with_its_scope_even_after_a_panic() {
        let json = |t: &Timestamp| serde_json::to_value(t).unwrap();
        let time = Timestamp::relative(1_500_000);
        let panicked =
            std::panic::catch_unwind(|| with_precise_times(|| std::panic::resume_unwind(Box::new(()))));
        assert!(panicked.is_err());
        assert_eq!(json(&time), "+1ms");
        with_precise_times(|| {
            with_precise_times(|| assert_eq!(json(&time), "+1.500000ms"));
            assert_eq!(json(&time), "+1.500000ms");
            assert_eq!(json(&Timestamp::UNDEFINED), "undefined");
        });
        assert_eq!(json(&time), "+1ms");
    }

    #[test]
    fn invalid_text_is_an_error() {
        for text in [
            "+",
            "+ms",
            "+.ms",
            "+1.ms",
            "+.5ms",
            "+1",
            "1ms",
            "+-1ms",
            "-1ms",
            "+1e3ms",
            "+1s",
            "+ 1ms",
            "++1ms",
            "+1.2.3ms",
            "+１ms",
            "Undefined",
            "2026-11-23",
            "2026-11-23T13:27:02",
            "2026-13-23T13:27:02Z",
            "2026-02-30T13:27:02Z",
            "2026-11-23T13:27:02.Z",
            "2026-11-23T25:27:02Z",
            "10000-01-01T00:00:00Z",
            "-001-01-01T00:00:00Z",
            "2026-11-23T13:27:02+1:00",
            "2026-11-23T13:27:02+24:00",
            " +1ms",
            "é",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
        for json in ["1", "true", "[]", "{}", "-0.5"] {
            assert!(serde_json::from_str::<Timestamp>(json).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_rejected(text in "\\PC*|[+0-9:.TZms-]{0,40}") {
            if let Ok(time) = text.parse::<Timestamp>() {
                prop_assert_eq!(format!("{time:#}").parse::<Timestamp>(), Ok(time));
            }
        }

        #[test]
        fn all_nanoseconds_survive_a_round_trip(nanos: u64) {
            let time = Timestamp::relative(nanos);
            prop_assert_eq!(format!("{time:#}").parse(), Ok(time));
            prop_assert_eq!(time.to_string().parse(), Ok(Timestamp::relative(nanos / NANOS_PER_MS * NANOS_PER_MS)));
        }

        #[test]
        fn all_instants_survive_a_round_trip(nanos in FIRST_NANOS..=LAST_NANOS) {
            let time = Timestamp::from_unix_nanos(nanos);
            prop_assert_eq!(time.unix_nanos(), Some(nanos));
            let read: Timestamp = time.to_string().parse().unwrap();
            prop_assert_eq!((read, read.to_string()), (time, time.to_string()));
        }
    }
}
