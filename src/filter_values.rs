//! Parses the values of options that choose requests: those of the command, and those in the query of the debug page.

use std::time::Duration;

/// Parses a status, such as `404`, or a class of statuses, such as `5xx`. Returns the first and the last status.
pub(crate) fn status(text: &str) -> Result<(u16, u16), String> {
    let class = text.strip_suffix("xx").and_then(|class| class.parse::<u16>().ok());
    let range = match (class, text.parse::<u16>()) {
        (Some(class), _) => (class.saturating_mul(100), class.saturating_mul(100).saturating_add(99)),
        (None, Ok(code)) => (code, code),
        (None, Err(_)) => return Err("a status is a number such as 404, or a class such as 5xx".into()),
    };
    if (100..1000).contains(&range.0) { Ok(range) } else { Err("a status has three digits".into()) }
}

/// Parses a duration in seconds, or in milliseconds with `ms`: `2.5`, `2.5s`, `800ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1e-3),
        (None, Some(number)) => (number, 1.0),
        (None, None) => (text, 1.0),
    };
    let seconds: f64 = number.trim().parse().map_err(|_| "not a number of seconds")?;
    match Duration::try_from_secs_f64(seconds * unit) {
        Ok(time) if !time.is_zero() => Ok(time),
        _ => Err("not a time that can be waited for".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_code_or_a_class() {
        assert_eq!((status("404"), status("5xx")), (Ok((404, 404)), Ok((500, 599))));
        for wrong in ["", "xx", "5x", "99", "1000", "-1", "0xx", "656xx", "abc"] {
            assert!(status(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_are_in_seconds_or_milliseconds() {
        for (text, millis) in [("2", 2000), ("0.5", 500), ("2.5s", 2500), ("800ms", 800)] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(millis));
        }
        for wrong in ["", "0", "-1", "x", "nan", "inf", "1e300", "1m"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
