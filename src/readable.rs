//! Formats numbers, and escapes text from the network.

use std::borrow::Cow;

/// Escapes what a terminal would interpret: control characters (which begin ANSI sequences), line separators, and
/// characters that change the direction of writing.
pub(crate) fn escape_controls(text: &str) -> Cow<'_, str> {
    if !text.contains(needs_escape) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if needs_escape(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

fn needs_escape(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Cuts a text that is repeated in many rows, if it is longer than such texts usually are.
pub(crate) fn shortened(text: &str) -> Cow<'_, str> {
    /// The path of a Unix socket has at most 107 bytes.
    const MAX_CHARS: usize = 110;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// Formats a duration in nanoseconds with three significant digits, rounded down. In a trace with whole milliseconds
/// (`coarse`) zero is `<1 ms`.
pub(crate) fn duration(nanos: i64, coarse: bool) -> String {
    let nanos = nanos.unsigned_abs();
    match nanos {
        0..1_000_000 if coarse => "<1 ms".into(),
        1_000_000..10_000_000_000 if coarse => format!("{} ms", nanos / 1_000_000),
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{} µs", three_digits(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{} ms", three_digits(nanos, 1_000_000)),
        1_000_000_000..120_000_000_000 => format!("{} s", three_digits(nanos, 1_000_000_000)),
        _ => {
            let minutes = nanos / 60_000_000_000;
            match minutes {
                0..60 => format!("{minutes} m {} s", nanos / 1_000_000_000 % 60),
                60..2880 => format!("{} h {} m", minutes / 60, minutes % 60),
                _ => format!("{} d {} h", minutes / 1440, minutes / 60 % 24),
            }
        }
    }
}

/// Formats a round duration for the marks of an axis, with one decimal if needed.
pub(crate) fn round_duration(nanos: i64) -> String {
    let (unit, name) = match nanos {
        0..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        1_000_000_000..600_000_000_000 => (1_000_000_000, "s"),
        _ => return duration(nanos, false),
    };
    match (nanos / unit, nanos % unit * 10 / unit) {
        (whole, 0) => format!("{whole} {name}"),
        (whole, tenths) => format!("{whole}.{tenths} {name}"),
    }
}

/// Formats a number of bytes with SI units.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", three_digits(bytes, 1_000)),
        1_000_000..1_000_000_000 => format!("{} MB", three_digits(bytes, 1_000_000)),
        _ => format!("{} GB", three_digits(bytes, 1_000_000_000)),
    }
}

/// Formats a count with its noun in singular or plural.
pub(crate) fn count(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

fn three_digits(value: u64, unit: u64) -> String {
    let whole = value / unit;
    let decimals = match whole {
        0..10 => 2,
        10..100 => 1,
        _ => 0,
    };
    let scale = 10u64.pow(decimals);
    let fraction = value % unit * scale / unit;
    if decimals == 0 {
        whole.to_string()
    } else {
        format!("{whole}.{fraction:0width$}", width = decimals as usize)
    }
}

/// Formats an HTTP status code with its reason phrase.
pub(crate) fn status(code: u16) -> String {
    let known = http::StatusCode::from_u16(code).ok();
    match known.as_ref().and_then(http::StatusCode::canonical_reason) {
        Some(reason) => format!("{code} {reason}"),
        None => code.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_three_digits() {
        for (nanos, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (12_340, "12.3 µs"),
            (999_999, "999 µs"),
            (1_049_999, "1.04 ms"),
            (72_431_907, "72.4 ms"),
            (1_241_000_000, "1.24 s"),
            (119_999_999_999, "119 s"),
            (125_000_000_000, "2 m 5 s"),
            (3_725_000_000_000, "1 h 2 m"),
            (i64::MAX, "106751 d 23 h"),
        ] {
            assert_eq!(duration(nanos, false), text);
        }
    }

    #[test]
    fn round_durations_have_only_the_digits_that_they_need() {
        for (nanos, text) in [
            (0, "0 ns"),
            (500_000, "500 µs"),
            (1_000_000, "1 ms"),
            (1_500_000, "1.5 ms"),
            (20_000_000, "20 ms"),
            (1_200_000_000, "1.2 s"),
            (600_000_000_000, "10 m 0 s"),
        ] {
            assert_eq!(round_duration(nanos), text);
        }
    }

    #[test]
    fn whole_milliseconds_have_no_more_precision() {
        for (nanos, text) in
            [(0, "<1 ms"), (1_000_000, "1 ms"), (1_241_000_000, "1241 ms"), (12_000_000_000, "12.0 s")]
        {
            assert_eq!(duration(nanos, true), text);
        }
    }

    #[test]
    fn sizes_and_counts_have_units() {
        for (size, text) in [(0, "0 B"), (999, "999 B"), (15_381, "15.3 kB"), (u64::MAX, "18446744073 GB")] {
            assert_eq!(bytes(size), text);
        }
        assert_eq!((count(1, "hop"), count(2, "hop")), ("1 hop".into(), "2 hops".into()));
    }

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(escape_controls("plain žluť 日本"), "plain žluť 日本");
        assert!(matches!(escape_controls("plain"), Cow::Borrowed(_)));
        assert_eq!(escape_controls("\x1b[31m\r\n\u{9b}\u{202e}x"), "\\u{1b}[31m\\r\\n\\u{9b}\\u{202e}x");
    }
}
