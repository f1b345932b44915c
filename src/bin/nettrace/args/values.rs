//! Parses the values of arguments.

use http::{HeaderName, HeaderValue};
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

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("an attribute is written as KEY=VALUE".into()),
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
}
