//! Header fields by policy, and what is masked before it is held.

use super::settings::{ExcludeHeader, HeaderCapture, Settings};
use crate::record::{
    HttpHeaderField, HttpHeaders,
    limits::{self, MAX_HEADER_BYTES, MAX_HEADER_FIELDS, TRUNCATION_MARK},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
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
        match settings.headers {
            HeaderCapture::Off | HeaderCapture::Names => return Value::Hidden,
            HeaderCapture::Lengths => return Value::Length(value.len() as u32),
            HeaderCapture::Values => {}
        }
        let kind =
            if settings.reveal_headers.contains(name) { FieldKind::Revealed } else { FieldKind::of(name) };
        let text = || String::from_utf8_lossy(value.as_bytes());
        let bytes: Cow<'_, [u8]> = match kind {
            FieldKind::Secret => return Value::Length(value.len() as u32),
            FieldKind::Revealed => value.as_bytes().into(),
            FieldKind::Challenges => schemes(&text()).into_bytes().into(),
            FieldKind::Url => masked(value, settings.mask_query),
            FieldKind::Links => mask_links(&text(), settings.mask_query).into_bytes().into(),
            FieldKind::Text if value.as_bytes().contains(&b'@') => mask_in_text(&text()).into_bytes().into(),
            FieldKind::Text => value.as_bytes().into(),
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

/// Returns `true` if the value of a field of that name may be held elsewhere than among the header fields.
#[cfg(feature = "request")]
pub(super) fn is_value_wanted(name: &HeaderName, settings: &Settings) -> bool {
    settings.headers == HeaderCapture::Values
        && settings.exclude_header.as_deref().is_none_or(|ask| !is_excluded(ask, name))
}

fn is_excluded(exclude: &ExcludeHeader, name: &HeaderName) -> bool {
    catch_unwind(AssertUnwindSafe(|| exclude(name))).unwrap_or_else(|_| {
        tracing::warn!(target: "nettrace", "the function that excludes header fields panicked");
        true
    })
}

/// What the value of a header field is, as far as it may hold secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FieldKind {
    /// Named by the user as one whose value is recorded as it is.
    Revealed,
    /// A credential: not recorded.
    Secret,
    /// Authentication schemes with their parameters, which are not recorded (RFC 9110 section 11.3).
    Challenges,
    /// A reference to a resource. It may have user info and a query as a URL has.
    Url,
    /// Such references between angle brackets, among parameters (RFC 8288).
    Links,
    /// Anything else. It may mention a URL.
    Text,
}

impl FieldKind {
    fn of(name: &HeaderName) -> Self {
        match name.as_str() {
            "www-authenticate" | "proxy-authenticate" => FieldKind::Challenges,
            // `Refresh` holds one URL behind a number.
            "location" | "content-location" | "referer" | "origin" | "destination" | "refresh" => {
                FieldKind::Url
            }
            "link" => FieldKind::Links,
            name if is_secret(name) => FieldKind::Secret,
            _ => FieldKind::Text,
        }
    }
}

/// Names of credentials that their words do not give away.
const SECRETS: [&str; 7] = [
    "authentication-info",
    "proxy-authentication-info",
    "dpop",
    "x-session-id",
    "x-functions-key",
    "x-master-key",
    "x-rapidapi-key",
];

/// A field is a credential if one of these is a word of its name: `X-Amz-Security-Token`, `Set-Cookie2`.
const SECRET_WORDS: [&str; 11] = [
    "authorization",
    "cookie",
    "cookie2",
    "token",
    "jwt",
    "secret",
    "password",
    "passwd",
    "credential",
    "credentials",
    "apikey",
];

/// A field is a credential if its name ends with one of these: `X-Goog-Api-Key`.
const SECRET_ENDINGS: [&str; 7] = [
    "api-key",
    "access-key",
    "account-key",
    "auth-key",
    "customer-key",
    "encryption-key",
    "subscription-key",
];

fn is_secret(name: &str) -> bool {
    SECRETS.contains(&name)
        || name.split('-').any(|word| SECRET_WORDS.contains(&word))
        || SECRET_ENDINGS.iter().any(|ending| name.ends_with(ending))
}

/// The names of authentication schemes; what follows one is replaced by `***`.
fn schemes(challenges: &str) -> String {
    const HIDDEN: &str = "***";
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    let mut shown: Vec<String> = Vec::new();
    for part in outside_quotes(challenges, ',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, rest) = part.split_once([' ', '\t']).unwrap_or((part, ""));
        if is_token(first) && !rest.trim_start().starts_with('=') {
            shown.push(if rest.is_empty() { first.into() } else { format!("{first} {HIDDEN}") });
            continue;
        }
        // One more parameter of the scheme before.
        match shown.last_mut() {
            Some(scheme) if scheme.ends_with(HIDDEN) => {}
            Some(scheme) => *scheme = format!("{scheme} {HIDDEN}"),
            None => shown.push(HIDDEN.into()),
        }
    }
    shown.join(", ")
}

/// The parts of a text between separators that are not in a quoted string (RFC 9110 section 5.6.4).
fn outside_quotes(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |c| {
        let is_plain = !is_escaped;
        is_escaped = is_quoted && is_plain && c == '\\';
        is_quoted ^= is_plain && c == '"';
        !is_quoted && c == separator
    })
}

/// As [`masked`], for each reference between angle brackets.
fn mask_links(links: &str, mask_query: bool) -> String {
    let (mut shown, mut rest) = (String::new(), links);
    while let Some((before, after)) = rest.split_once('<') {
        let end = after.find('>').unwrap_or(after.len());
        shown.push_str(&mask_in_text(before));
        shown.push('<');
        shown.push_str(&mask_text(&after[..end], mask_query).unwrap_or_else(|| after[..end].into()));
        rest = &after[end..];
    }
    shown.push_str(&mask_in_text(rest));
    shown
}

/// A text without the user info of URLs in it.
fn mask_in_text(text: &str) -> String {
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(slashes) = rest.find("//") {
        let (before, after) = rest.split_at(slashes + "//".len());
        let ends = |c: char| c.is_whitespace() || "/?#\"<>\\^`{|}".contains(c);
        let (authority, after) = after.split_at(after.find(ends).unwrap_or(after.len()));
        shown.push_str(before);
        match authority.rsplit_once('@') {
            Some((_, host)) => shown.extend(["***@", host]),
            None => shown.push_str(authority),
        }
        rest = after;
    }
    shown.push_str(rest);
    shown
}

/// As [`mask_uri`], of what may be relative, or no URL at all.
fn masked(value: &HeaderValue, mask_query: bool) -> Cow<'_, [u8]> {
    match mask_text(&String::from_utf8_lossy(value.as_bytes()), mask_query) {
        Some(masked) => masked.into_bytes().into(),
        None => value.as_bytes().into(),
    }
}

/// `None` when there is nothing to mask.
fn mask_text(text: &str, mask_query: bool) -> Option<String> {
    let (before, query) = match text.split_once('?') {
        Some((before, query)) => (before, Some(query)),
        None => (text, None),
    };
    // What comes before an @ outside the query is a password at worst, and part of a path at best.
    let host =
        before.rfind('@').and_then(|at| Some((before.find("//")? + 2, at))).filter(|(from, at)| from <= at);
    if host.is_none() && !(mask_query && query.is_some()) {
        return None;
    }
    let before =
        host.map_or_else(|| before.into(), |(from, at)| format!("{}***{}", &before[..from], &before[at..]));
    let query =
        query.map_or_else(String::new, |query| format!("?{}", if mask_query { "***" } else { query }));
    Some(before + &query)
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
    use http::header;

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
