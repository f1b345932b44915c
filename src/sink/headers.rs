//! Header fields by policy, and what is masked before it is held.

use super::settings::{HeaderCapture, Settings};
use crate::record::{HttpHeaderField, HttpHeaders};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, uri::PathAndQuery};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Header fields as they were, less what may not be held. Cheap to make: names and values are shared.
#[derive(Debug, Default)]
pub(crate) struct CapturedHeaders(Vec<(HeaderName, Value)>);

#[derive(Debug)]
enum Value {
    Hidden,
    Length(u32),
    Shown(HeaderValue),
}

impl CapturedHeaders {
    pub(crate) fn take(headers: &HeaderMap, settings: &Settings) -> Self {
        let capture = settings.headers;
        if capture == HeaderCapture::Off {
            return Self::default();
        }
        let excluded = |name: &HeaderName| {
            settings.exclude_header.as_ref().is_some_and(|exclude| {
                catch_unwind(AssertUnwindSafe(|| exclude(name))).unwrap_or_else(|_| {
                    tracing::warn!(target: "nettrace", "the function that excludes header fields panicked");
                    true
                })
            })
        };
        let value = |name: &HeaderName, value: &HeaderValue| match capture {
            HeaderCapture::Off | HeaderCapture::Names => Value::Hidden,
            HeaderCapture::Values if !is_secret(name) || settings.reveal_headers.contains(name) => {
                Value::Shown(mask_urls(name, value, settings.mask_query))
            }
            HeaderCapture::Lengths | HeaderCapture::Values => Value::Length(value.len() as u32),
        };
        let fields = headers.iter().filter(|(name, _)| !excluded(name));
        CapturedHeaders(fields.map(|(name, v)| (name.clone(), value(name, v))).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn export(&self) -> HttpHeaders {
        self.0
            .iter()
            .map(|(name, value)| {
                let (field_val, field_val_len) = match value {
                    Value::Hidden => (String::new(), 0),
                    Value::Length(length) => (String::new(), *length),
                    Value::Shown(value) => {
                        (String::from_utf8_lossy(value.as_bytes()).into(), value.len() as u32)
                    }
                };
                HttpHeaderField { field_name: name.as_str().into(), field_val, field_val_len }
            })
            .collect()
    }
}

fn is_secret(name: &HeaderName) -> bool {
    [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE, header::SET_COOKIE].contains(name)
}

/// A URL within a value is held as any other: without user info, and without its query where that is to be masked.
fn mask_urls(name: &HeaderName, value: &HeaderValue, mask_query: bool) -> HeaderValue {
    let is_url = [header::LOCATION, header::CONTENT_LOCATION, header::REFERER].contains(name);
    let has_query = mask_query && is_url && value.as_bytes().contains(&b'?');
    let Ok(text) = std::str::from_utf8(value.as_bytes()) else { return value.clone() };
    let may_have_user = text.contains("//") && text.contains('@');
    if !may_have_user && !has_query {
        return value.clone();
    }
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("//") {
        let (before, authority) = rest.split_at(at + 2);
        masked.push_str(before);
        let end = authority.find(['/', '?', '#', ' ', ',', ';', '"', '<', '>']).unwrap_or(authority.len());
        match authority[..end].rfind('@') {
            Some(user_info) => {
                masked.push_str("***");
                rest = &authority[user_info..];
            }
            None => rest = authority,
        }
    }
    masked.push_str(rest);
    if let Some(query) = masked.find('?').filter(|_| has_query) {
        masked.truncate(query + 1);
        masked.push_str("***");
    }
    HeaderValue::try_from(masked).unwrap_or_else(|_| HeaderValue::from_static("***"))
}

/// The URI without user info, and without its query where that is to be masked.
pub(crate) fn mask_uri(uri: &Uri, mask_query: bool) -> Uri {
    let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    let has_query = mask_query && uri.query().is_some();
    if !has_user && !has_query {
        return uri.clone();
    }
    let mut parts = uri.clone().into_parts();
    if has_user {
        parts.authority = parts.authority.and_then(|authority| {
            let host = authority.as_str().rsplit('@').next()?;
            format!("***@{host}").parse().ok()
        });
    }
    if has_query {
        let path = PathAndQuery::try_from(format!("{}?***", uri.path()));
        parts.path_and_query = Some(path.unwrap_or_else(|_| PathAndQuery::from_static("/?***")));
    }
    Uri::from_parts(parts).unwrap_or_default()
}

/// The URI without user info.
pub(crate) fn without_user_info(uri: &Uri) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.authority =
        parts.authority.and_then(|authority| authority.as_str().rsplit('@').next()?.parse().ok());
    Uri::from_parts(parts).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_info_is_never_held() {
        let uri: Uri = "http://joe:secret@example.com:81/a?token=1".parse().unwrap();
        assert_eq!(mask_uri(&uri, false), "http://***@example.com:81/a?token=1");
        assert_eq!(mask_uri(&uri, true), "http://***@example.com:81/a?***");
        let plain: Uri = "https://example.com/?q=1".parse().unwrap();
        assert_eq!(mask_uri(&plain, false), plain);
    }

    #[test]
    fn user_info_in_values_is_not_held_either() {
        let mask = |name, value: &'static str, query| {
            mask_urls(&name, &HeaderValue::from_static(value), query).to_str().unwrap().to_owned()
        };
        for (value, masked) in [
            ("http://joe:a%40b@x.test/y?z", "http://***@x.test/y?z"),
            ("//joe@x.test", "//***@x.test"),
            ("0; url=http://joe:s@x.test/", "0; url=http://***@x.test/"),
            ("<http://a@x.test>, <http://b:c@y.test/>", "<http://***@x.test>, <http://***@y.test/>"),
            ("joe@x.test", "joe@x.test"),
            ("/a//b@c/d", "/a//***@c/d"),
            ("text/html", "text/html"),
        ] {
            assert_eq!(mask(header::LOCATION, value, false), masked);
        }
        assert_eq!(mask(header::LOCATION, "http://joe:s@x.test/y?z=1", true), "http://***@x.test/y?***");
        assert_eq!(mask(header::REFERER, "/y?z=1", true), "/y?***");
        assert_eq!(mask(header::ACCEPT, "what?", true), "what?");
    }

    #[test]
    fn secrets_come_out_only_when_named() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer 123"));
        headers.insert(header::COOKIE, HeaderValue::from_static("a=b"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        let mut settings = Settings { headers: HeaderCapture::Values, ..Settings::default() };
        settings.reveal_headers.push(header::COOKIE);
        let captured = CapturedHeaders::take(&headers, &settings).export();
        assert_eq!(captured.get("Authorization").map(|field| field.field_val.as_str()), Some(""));
        assert_eq!(captured.get("authorization").map(|field| field.field_val_len), Some(10));
        assert_eq!(captured.get("cookie").map(|field| field.field_val.as_str()), Some("a=b"));
        assert_eq!(captured.get("accept").map(|field| field.field_val.as_str()), Some("*/*"));
    }
}
