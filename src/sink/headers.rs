//! Header fields by policy, and what is masked before it is held.

use super::settings::{ExcludeHeader, HeaderCapture, Settings};
use crate::record::{
    HttpHeaderField, HttpHeaders,
    limits::{self, MAX_HEADER_BYTES, MAX_HEADER_FIELDS, TRUNCATION_MARK},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Uri, header,
    uri::{Authority, PathAndQuery},
};
use std::{
    borrow::Cow,
    fmt,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Header fields as they were, less what may not be held.
#[derive(Default)]
pub(crate) struct CapturedHeaders {
    fields: Vec<(HeaderName, Value)>,
    /// The values that are shown, one after the other. Copies: what was read shares its memory with the whole head,
    /// secrets included, which must not stay for as long as the record does.
    shown: Vec<u8>,
    /// How many fields there were before some were left out.
    original_fields: Option<NonZeroU32>,
}

#[derive(Clone, Copy)]
enum Value {
    Hidden,
    Length(u32),
    /// So many bytes of what is shown.
    Shown(u32),
    /// The same of a value that had more.
    Cut {
        shown: u32,
        length: u32,
    },
}

impl CapturedHeaders {
    /// `None` when there are none that are to be held.
    #[inline]
    pub(crate) fn take(headers: &HeaderMap, settings: &Settings) -> Option<Self> {
        let is_on = settings.headers != HeaderCapture::Off && !headers.is_empty();
        is_on.then(|| Self::wanted(headers, settings)).filter(|wanted| !wanted.fields.is_empty())
    }

    fn wanted(headers: &HeaderMap, settings: &Settings) -> Self {
        // A filter knows no length of its own, and the lists would grow step by step.
        let mut fields = Vec::with_capacity(headers.len().min(MAX_HEADER_FIELDS));
        let shows_values = settings.headers == HeaderCapture::Values;
        let mut shown = Vec::with_capacity(
            if shows_values { headers.values().map(HeaderValue::len).sum::<usize>() } else { 0 }
                .min(MAX_HEADER_BYTES),
        );
        let excluded = settings.exclude_header.as_deref();
        let wanted = headers.iter().filter(|(name, _)| excluded.is_none_or(|ask| !is_excluded(ask, name)));
        let (mut all, mut left) = (0, MAX_HEADER_BYTES);
        for (name, value) in wanted {
            all += 1;
            let name_bytes = name.as_str().len();
            if fields.len() < MAX_HEADER_FIELDS && name_bytes <= left {
                left -= name_bytes;
                let before = shown.len();
                let value = Value::take(name, value, settings, &mut shown).limited(before, left, &mut shown);
                left -= shown.len() - before;
                fields.push((name.clone(), value));
            }
        }
        shown.shrink_to(MAX_HEADER_BYTES);
        let original_fields = if fields.len() < all { limits::size(all) } else { None };
        CapturedHeaders { fields, shown, original_fields }
    }

    /// How many fields there were before some were left out.
    pub(super) fn original_fields(&self) -> Option<NonZeroU32> {
        self.original_fields
    }

    /// The heap memory that it takes.
    pub(super) fn heap_bytes(&self) -> usize {
        let names = self.fields.iter().map(|(name, _)| name.as_str().len()).sum::<usize>();
        self.fields.capacity() * size_of::<(HeaderName, Value)>() + self.shown.capacity() + names
    }

    pub(crate) fn export(&self) -> HttpHeaders {
        let mut shown = &self.shown[..];
        let fields = self.fields.iter().map(|(name, value)| {
            let (field_val, field_val_len) = match *value {
                Value::Hidden => (String::new(), 0),
                Value::Length(length) => (String::new(), length),
                Value::Shown(length) => {
                    let (value, rest) = shown.split_at(length as usize);
                    shown = rest;
                    (String::from_utf8_lossy(value).into(), length)
                }
                Value::Cut { shown: bytes, length } => {
                    let (value, rest) = shown.split_at(bytes as usize);
                    shown = rest;
                    let mut value = String::from_utf8_lossy(value).into_owned();
                    value.push(TRUNCATION_MARK);
                    (value, length)
                }
            };
            HttpHeaderField { field_name: name.as_str().into(), field_val, field_val_len }
        });
        fields.collect()
    }
}

/// The names alone.
impl fmt::Debug for CapturedHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.fields.iter().map(|(name, _)| name)).finish()
    }
}

impl Value {
    #[inline]
    fn take(name: &HeaderName, value: &HeaderValue, settings: &Settings, shown: &mut Vec<u8>) -> Self {
        let bytes: Cow<'_, [u8]> = match settings.headers {
            HeaderCapture::Off | HeaderCapture::Names => return Value::Hidden,
            HeaderCapture::Values if settings.reveal_headers.contains(name) => value.as_bytes().into(),
            HeaderCapture::Values if URLS.contains(name) => masked(value, settings.mask_query),
            HeaderCapture::Values if !SECRETS.contains(name) => value.as_bytes().into(),
            HeaderCapture::Lengths | HeaderCapture::Values => return Value::Length(value.len() as u32),
        };
        shown.extend_from_slice(&bytes);
        Value::Shown(bytes.len() as u32)
    }

    /// The same with at most `left` bytes of what is shown, which begins `at`.
    fn limited(self, at: usize, left: usize, shown: &mut Vec<u8>) -> Self {
        let Value::Shown(length) = self else { return self };
        if length as usize <= left {
            return self;
        }
        // No character is cut in two.
        let is_boundary = |bytes: &usize| shown[at + bytes] & 0xc0 != 0x80;
        let bytes = (0..=left).rev().find(is_boundary).unwrap_or(0);
        shown.truncate(at + bytes);
        if bytes == 0 { Value::Length(length) } else { Value::Cut { shown: bytes as u32, length } }
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
fn masked(value: &HeaderValue, mask_query: bool) -> Cow<'_, [u8]> {
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
        return value.as_bytes().into();
    }
    let before =
        host.map_or_else(|| before.into(), |(from, at)| format!("{}***{}", &before[..from], &before[at..]));
    let query =
        query.map_or_else(String::new, |query| format!("?{}", if mask_query { "***" } else { query }));
    (before + &query).into_bytes().into()
}

/// The URI without user info, and without its query where that is to be masked.
pub(crate) fn mask_uri(uri: &Uri, mask_query: bool) -> Uri {
    let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    let has_query = mask_query && uri.query().is_some();
    if !has_user && !has_query {
        return uri.clone();
    }
    // Made anew: its parts share their memory with what is masked.
    let authority = uri.authority().map_or("", Authority::as_str);
    let host = authority.rsplit('@').next().unwrap_or_default();
    let user = if has_user { "***@" } else { "" };
    let (path, query) = if has_query {
        (uri.path(), "?***")
    } else {
        (uri.path_and_query().map_or("", PathAndQuery::as_str), "")
    };
    let (scheme, after) = uri.scheme_str().map_or(("", ""), |scheme| (scheme, "://"));
    Uri::try_from([scheme, after, user, host, path, query].concat()).unwrap_or_default()
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
    use bytes::Bytes;

    #[test]
    fn user_info_is_never_held() {
        let uri: Uri = "http://joe:secret@example.com:81/a?token=1".parse().unwrap();
        assert_eq!(mask_uri(&uri, false), "http://***@example.com:81/a?token=1");
        assert_eq!(mask_uri(&uri, true), "http://***@example.com:81/a?***");
        let plain: Uri = "https://example.com/?q=1".parse().unwrap();
        assert_eq!(mask_uri(&plain, false), plain);
        for (uri, masked) in [
            ("/a?q=1", "/a?***"),
            ("http://example.com?q=1", "http://example.com/?***"),
            ("joe@example.com:443", "***@example.com:443"),
            ("*", "*"),
        ] {
            assert_eq!(mask_uri(&uri.parse().unwrap(), true), masked);
        }
    }

    #[test]
    fn what_was_read_is_let_go_of() {
        let head = Bytes::from(String::from("http://joe:secret@example.com/a cookie=1 */*"));
        let url = Uri::from_maybe_shared(head.slice(..31)).unwrap();
        let value =
            |range: std::ops::Range<usize>| HeaderValue::from_maybe_shared(head.slice(range)).unwrap();
        let headers =
            HeaderMap::from_iter([(header::COOKIE, value(32..40)), (header::ACCEPT, value(41..44))]);
        let settings = Settings { headers: HeaderCapture::Values, ..Settings::default() };
        let masked = mask_uri(&url, false);
        let captured = CapturedHeaders::take(&headers, &settings).unwrap();
        drop((url, headers));
        assert!(head.is_unique());
        assert_eq!(masked, "http://***@example.com/a");
        assert_eq!(captured.export().get("accept").map(|field| field.field_val.as_str()), Some("*/*"));
        assert_eq!(format!("{captured:?}"), r#"["cookie", "accept"]"#, "values are in the trace alone");
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
