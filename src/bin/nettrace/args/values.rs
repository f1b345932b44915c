//! Parses the values of arguments.

use http::{HeaderName, HeaderValue};
use std::time::Duration;
use url::Url;

pub(super) fn url(text: &str) -> Result<Url, String> {
    // The parser treats `\` as a slash. Without a scheme, an added `http:` would become the host.
    let has_scheme = text.contains("://")
        || ["http:", "https:"].iter().any(|scheme| {
            text.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))
                && text[scheme.len()..].starts_with(['/', '\\'])
        });
    let with_scheme = if has_scheme { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&with_scheme).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("the scheme is {other}, not http or https")),
    }
}

pub(super) fn status(text: &str) -> Result<(u16, u16), String> {
    let class = text.strip_suffix("xx").and_then(|class| class.parse::<u16>().ok());
    let range = match (class, text.parse::<u16>()) {
        (Some(class), _) => (class * 100, class * 100 + 99),
        (None, Ok(code)) => (code, code),
        (None, Err(_)) => return Err("a status is a number such as 404, or a class such as 5xx".into()),
    };
    if (100..1000).contains(&range.0) { Ok(range) } else { Err("a status has three digits".into()) }
}

pub(super) fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("there is no colon between name and value")?;
    let name = name.trim().parse().map_err(|_| "what precedes the colon is no name of a header field")?;
    let value = value.trim().parse().map_err(|_| "the value has characters that it may not have")?;
    Ok((name, value))
}

pub(super) fn interface(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("an interface has a name; `any` stands for all".into()),
        name => Ok(name.into()),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
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
    fn urls_get_a_scheme_and_are_validated() {
        assert_eq!(url(r"http:\\joe:secret@h").unwrap().as_str(), "http://joe:secret@h/");
        assert_eq!(url("example.com:81/a").unwrap().as_str(), "http://example.com:81/a");
        assert_eq!(url("HTTPS://example.com").unwrap().as_str(), "https://example.com/");
        for wrong in ["", "ftp://example.com", "http://", "http://a b/", "http://[::1/"] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn header_fields_are_parsed_and_validated() {
        assert_eq!(
            header("X-A:b: c ").unwrap(),
            (HeaderName::from_static("x-a"), HeaderValue::from_static("b: c"))
        );
        assert_eq!(header("x-empty:").unwrap().1, "");
        for wrong in ["", "no colon", ": value", "a b: c", "a: b\nc"] {
            assert!(header(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_status_is_a_code_or_a_class() {
        assert_eq!((status("404"), status("5xx")), (Ok((404, 404)), Ok((500, 599))));
        for wrong in ["", "xx", "5x", "99", "1000", "-1", "0xx", "abc"] {
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
