//! Header fields by policy, and what is masked before it is held.

use super::settings::{ExcludeHeader, HeaderCapture, Settings};
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
    /// `None` when there are none that are to be held.
    #[inline]
    pub(crate) fn take(headers: &HeaderMap, settings: &Settings) -> Option<Self> {
        let is_on = settings.headers != HeaderCapture::Off && !headers.is_empty();
        is_on.then(|| Self::wanted(headers, settings)).filter(|wanted| !wanted.0.is_empty())
    }

    fn wanted(headers: &HeaderMap, settings: &Settings) -> Self {
        // A filter knows no length of its own, and the list would grow step by step.
        let mut fields = Vec::with_capacity(headers.len());
        let excluded = settings.exclude_header.as_deref();
        let wanted = headers.iter().filter(|(name, _)| excluded.is_none_or(|ask| !is_excluded(ask, name)));
        fields.extend(wanted.map(|(name, value)| (name.clone(), Value::take(name, value, settings))));
        CapturedHeaders(fields)
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

impl Value {
    #[inline]
    fn take(name: &HeaderName, value: &HeaderValue, settings: &Settings) -> Self {
        match settings.headers {
            HeaderCapture::Off | HeaderCapture::Names => Value::Hidden,
            HeaderCapture::Values if settings.reveal_headers.contains(name) => Value::Shown(value.clone()),
            HeaderCapture::Values if URLS.contains(name) => masked(value, settings.mask_query),
            HeaderCapture::Values if !SECRETS.contains(name) => Value::Shown(value.clone()),
            HeaderCapture::Lengths | HeaderCapture::Values => Value::Length(value.len() as u32),
        }
    }
}

/// Whether a field of that name may be held, where something else than header capture holds it.
#[cfg(feature = "request")]
pub(super) fn is_wanted(name: &HeaderName, settings: &Settings) -> bool {
    settings.exclude_header.as_deref().is_none_or(|ask| !is_excluded(ask, name))
}

fn is_excluded(exclude: &ExcludeHeader, name: &HeaderName) -> bool {
    catch_unwind(AssertUnwindSafe(|| exclude(name))).unwrap_or_else(|_| {
        tracing::warn!(target: "nettrace", "the function that excludes header fields panicked");
        true
    })
}

static SECRETS: [HeaderName; 4] =
    [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE, header::SET_COOKIE];

/// Fields whose value is a reference to a resource, which may have user info and a query as a URL has.
static URLS: [HeaderName; 3] = [header::LOCATION, header::CONTENT_LOCATION, header::REFERER];

/// As [`mask_uri`], of what may be relative, or no URL at all.
fn masked(value: &HeaderValue, mask_query: bool) -> Value {
    let text = String::from_utf8_lossy(value.as_bytes());
    let (before, query) = match text.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (&*text, None),
    };
    // What comes before an @ outside the query is a password at worst, and part of a path at best.
    let host =
        before.rfind('@').and_then(|at| Some((before.find("//")? + 2, at))).filter(|(from, at)| from <= at);
    let is_masked = host.is_some() || (mask_query && query.is_some());
    if !is_masked {
        return Value::Shown(value.clone());
    }
    let before =
        host.map_or_else(|| before.into(), |(from, at)| format!("{}***{}", &before[..from], &before[at..]));
    let query =
        query.map_or_else(String::new, |query| format!("?{}", if mask_query { "***" } else { query }));
    HeaderValue::try_from(before + &query).map_or(Value::Length(value.len() as u32), Value::Shown)
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
    fn urls_in_header_fields_are_masked_too() {
        for (location, shown, without_query) in [
            ("http://joe:secret@a.test/x?q=1", "http://***@a.test/x?q=1", "http://***@a.test/x?***"),
            ("//joe:sec/ret@a.test", "//***@a.test", "//***@a.test"),
            ("/x?to=http://joe@a.test", "/x?to=http://joe@a.test", "/x?***"),
            ("/@joe", "/@joe", "/@joe"),
            ("http://a.test/", "http://a.test/", "http://a.test/"),
        ] {
            for (mask_query, expected) in [(false, shown), (true, without_query)] {
                let settings = Settings { headers: HeaderCapture::Values, mask_query, ..Settings::default() };
                let mut headers = HeaderMap::new();
                headers.insert(header::LOCATION, HeaderValue::from_static(location));
                let captured = CapturedHeaders::take(&headers, &settings).unwrap().export();
                assert_eq!(captured.get("location").map(|field| field.field_val.as_str()), Some(expected));
            }
        }
    }

    #[test]
    fn secrets_come_out_only_when_named() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer 123"));
        headers.insert(header::COOKIE, HeaderValue::from_static("a=b"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        let mut settings = Settings { headers: HeaderCapture::Values, ..Settings::default() };
        settings.reveal_headers.push(header::COOKIE);
        let captured = CapturedHeaders::take(&headers, &settings).unwrap().export();
        assert_eq!(captured.get("Authorization").map(|field| field.field_val.as_str()), Some(""));
        assert_eq!(captured.get("authorization").map(|field| field.field_val_len), Some(10));
        assert_eq!(captured.get("cookie").map(|field| field.field_val.as_str()), Some("a=b"));
        assert_eq!(captured.get("accept").map(|field| field.field_val.as_str()), Some("*/*"));
    }
}
