//! Header fields by policy, and what is masked before it is held.

use crate::{
    record::{
        HttpHeaderField, HttpHeaders,
        limits::{self, MAX_HEADER_BYTES, MAX_HEADER_FIELDS, TRUNCATION_MARK},
    },
    sink::config::{ExcludeHeader, HeaderCapture, SinkConfig},
    user_info,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    uri::{Authority, PathAndQuery},
};
use memchr::memchr;
use std::{
    borrow::Cow,
    fmt,
    num::NonZeroU32,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Header fields as they were, less what may not be held.
#[derive(Default)]
pub(crate) struct CapturedHeaders {
    fields: Vec<(HeaderName, Value)>,
    /// The values that are shown, one after the other. Copies: what was read shares its memory with the whole head,
    /// secrets included, which must not stay for as long as the record does.
    shown: Vec<u8>,
    /// The bytes of all names.
    name_bytes: u32,
    /// How many fields there were before some were left out.
    original_fields: Option<NonZeroU32>,
}

#[derive(Clone, Copy)]
enum Value {
    Hidden,
    Length(u32),
    /// The number of bytes of what is shown.
    Shown(u32),
    /// As many bytes of what is shown as there was room for, of a longer value.
    Cut {
        shown: u32,
        length: u32,
    },
}

impl CapturedHeaders {
    /// Copies what the config ask for. Returns `None` if that is no field.
    #[inline]
    pub(crate) fn take(headers: &HeaderMap, config: &SinkConfig) -> Option<Self> {
        if config.headers == HeaderCapture::Off || headers.is_empty() {
            return None;
        }
        Some(Self::copy(headers, config)).filter(|copied| !copied.fields.is_empty())
    }

    fn copy(headers: &HeaderMap, config: &SinkConfig) -> Self {
        match config.headers {
            HeaderCapture::Off => CapturedHeaders::default(),
            HeaderCapture::Names => Self::copy_with(headers, config, |_, _, _| (Value::Hidden, 0)),
            HeaderCapture::Lengths => {
                let length = |_: &HeaderName, value: &HeaderValue, _| (Value::Length(value.len() as u32), 0);
                Self::copy_with(headers, config, length)
            }
            HeaderCapture::Values => {
                let bytes = headers.values().map(HeaderValue::len).sum::<usize>();
                let mut shown = Vec::with_capacity(bytes.min(MAX_HEADER_BYTES));
                let copied = Self::copy_with(headers, config, |name, value, left| {
                    let before = shown.len();
                    let value =
                        Value::take(name, value, config, &mut shown).limited(before, left, &mut shown);
                    (value, shown.len() - before)
                });
                shown.shrink_to(MAX_HEADER_BYTES);
                CapturedHeaders { shown, ..copied }
            }
        }
    }

    /// Copies the names, with what `value_of` makes of the values. It is given the number of bytes that are left for the
    /// value, and returns how many of them it took.
    #[inline]
    fn copy_with(
        headers: &HeaderMap,
        config: &SinkConfig,
        mut value_of: impl FnMut(&HeaderName, &HeaderValue, usize) -> (Value, usize),
    ) -> Self {
        // An iterator that skips some does not know how many there are, and the list would grow step by step.
        let mut fields = Vec::with_capacity(headers.len().min(MAX_HEADER_FIELDS));
        let excluded = config.exclude_header.as_deref();
        let (mut all, mut name_bytes, mut left) = (0, 0, MAX_HEADER_BYTES);
        for (name, value) in headers {
            if excluded.is_some_and(|ask| is_excluded(ask, name)) {
                continue;
            }
            all += 1;
            let length = name.as_str().len();
            if fields.len() == MAX_HEADER_FIELDS || length > left {
                continue;
            }
            let (value, taken) = value_of(name, value, left - length);
            left -= length + taken;
            name_bytes += length;
            fields.push((name.clone(), value));
        }
        let original_fields = if fields.len() < all { limits::original_size(all) } else { None };
        CapturedHeaders { fields, shown: Vec::new(), name_bytes: name_bytes as u32, original_fields }
    }

    /// How many fields there were before some were left out.
    pub(in crate::sink) fn original_fields(&self) -> Option<NonZeroU32> {
        self.original_fields
    }

    /// The heap memory that it takes.
    pub(in crate::sink) fn heap_bytes(&self) -> usize {
        let fields = self.fields.capacity() * size_of::<(HeaderName, Value)>();
        fields + self.shown.capacity() + self.name_bytes as usize
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
    /// Adds the value to `shown` as far as it may be held.
    #[inline]
    fn take(name: &HeaderName, value: &HeaderValue, config: &SinkConfig, shown: &mut Vec<u8>) -> Self {
        let kind =
            if config.reveal_headers.contains(name) { FieldKind::Revealed } else { FieldKind::of(name) };
        let text = || String::from_utf8_lossy(value.as_bytes());
        let bytes: Cow<'_, [u8]> = match kind {
            FieldKind::Secret => return Value::Length(value.len() as u32),
            FieldKind::Revealed => value.as_bytes().into(),
            FieldKind::Challenges => schemes(&text()).into_bytes().into(),
            FieldKind::Url => masked(value, config.mask_query),
            FieldKind::Refresh => match mask_refresh(&text(), config.mask_query) {
                Some(masked) => masked.into_bytes().into(),
                None => value.as_bytes().into(),
            },
            FieldKind::Links => mask_links(&text(), config.mask_query).into_bytes().into(),
            FieldKind::Text if memchr(b'@', value.as_bytes()).is_some() => {
                mask_in_text(&text()).into_bytes().into()
            }
            FieldKind::Text => value.as_bytes().into(),
        };
        shown.extend_from_slice(&bytes);
        Value::Shown(bytes.len() as u32)
    }

    /// Returns the value cut to at most `left` bytes of what is shown, which begins at index `at`.
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
pub(in crate::sink) fn is_value_wanted(name: &HeaderName, config: &SinkConfig) -> bool {
    config.headers == HeaderCapture::Values
        && config.exclude_header.as_deref().is_none_or(|ask| !is_excluded(ask, name))
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
    /// Such a reference behind a number.
    Refresh,
    /// Such references between angle brackets, among parameters (RFC 8288).
    Links,
    /// Anything else. It may mention a URL.
    Text,
}

impl FieldKind {
    fn of(name: &HeaderName) -> Self {
        match name.as_str() {
            "www-authenticate" | "proxy-authenticate" => FieldKind::Challenges,
            "location" | "content-location" | "referer" | "origin" | "destination" => FieldKind::Url,
            "refresh" => FieldKind::Refresh,
            "link" => FieldKind::Links,
            name if is_secret(name) => FieldKind::Secret,
            _ => FieldKind::Text,
        }
    }
}

/// Returns `true` if a field of that name holds a credential.
fn is_secret(name: &str) -> bool {
    // Asked for every field: one pass over the name, in which most words are told by their first letter.
    let bytes = name.as_bytes();
    let mut begin = 0;
    for (end, byte) in bytes.iter().enumerate() {
        if *byte == b'-' {
            if is_secret_word(&bytes[begin..end]) {
                return true;
            }
            begin = end + 1;
        }
    }
    match &bytes[begin..] {
        b"key" => begin > 0 && is_kind_of_key(&name[..begin - 1]),
        b"info" => matches!(name, "authentication-info" | "proxy-authentication-info"),
        b"id" => name == "x-session-id",
        b"dpop" => begin == 0,
        word => is_secret_word(word),
    }
}

/// Returns `true` if a field is a credential because of this word of its name, as in `X-Amz-Security-Token` and
/// `Set-Cookie2`.
#[inline]
fn is_secret_word(word: &[u8]) -> bool {
    matches!(word, [b'a' | b'c' | b'j' | b'p' | b's' | b't', ..]) && is_listed_word(word)
}

fn is_listed_word(word: &[u8]) -> bool {
    matches!(
        word,
        b"authorization"
            | b"cookie"
            | b"cookie2"
            | b"token"
            | b"jwt"
            | b"secret"
            | b"password"
            | b"passwd"
            | b"credential"
            | b"credentials"
            | b"apikey"
    )
}

/// Returns `true` if a key of that kind is a credential, as in `X-Goog-Api-Key`. There are harmless ones, such as
/// `Surrogate-Key`.
fn is_kind_of_key(name: &str) -> bool {
    const KINDS: [&str; 9] = [
        "api",
        "access",
        "account",
        "auth",
        "customer",
        "encryption",
        "subscription",
        "x-functions",
        "x-master",
    ];
    KINDS.iter().any(|kind| name.ends_with(kind))
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

/// Masks each reference between angle brackets as [`mask_text`] does, and what is around them as [`mask_in_text`] does.
fn mask_links(links: &str, mask_query: bool) -> String {
    let last_at = links.rfind('@');
    let (mut shown, mut begin) = (String::new(), 0);
    while let Some(bracket) = links[begin..].find('<') {
        let link = begin + bracket + '<'.len_utf8();
        begin = mask_range(links, begin..link, last_at, &mut shown);
        if begin > link {
            continue; // the bracket was part of a password
        }
        let end = end_of_link(links, link, last_at);
        let url = &links[link..end];
        shown.push_str(&mask_text(url, mask_query).unwrap_or_else(|| url.into()));
        begin = end;
    }
    mask_range(links, begin..links.len(), last_at, &mut shown);
    shown
}

/// Returns the index of the `>` behind the reference that begins at `begin`: one before parameters, the next reference
/// or the end, since a password that was not escaped may have others.
fn end_of_link(text: &str, begin: usize, last_at: Option<usize>) -> usize {
    // No further than to the next reference: a text of brackets must not be searched whole for each of them.
    let segment_end = text[begin..].find('<').map_or(text.len(), |len| begin + len);
    let segment = &text[begin..segment_end];
    let is_end = |at: &usize| matches!(segment[at + 1..].trim_start().chars().next(), None | Some(';' | ','));
    let brackets = || segment.match_indices('>').map(|(at, _)| at);
    let end = brackets().find(is_end).or_else(|| brackets().next()).map_or(segment_end, |len| begin + len);
    let authority = user_info::authority(&text[begin..end]).map(|len| begin + len);
    let is_cut = authority.is_some_and(|authority| {
        !text[authority..end].contains('@') && user_info_end(text, authority..end, last_at) > Some(end)
    });
    // The password goes on behind the bracket.
    let at = if is_cut { text[end..].find('@').map(|len| end + len) } else { None };
    at.map_or(end, |at| text[at..].find('>').map_or(text.len(), |len| at + len))
}

/// Masks the user info of URLs in a text.
fn mask_in_text(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    mask_range(text, 0..text.len(), text.rfind('@'), &mut shown);
    shown
}

/// Masks the user info of URLs that begin in a range of a text. Returns the index up to which the text is in `shown`: the
/// range's end, or behind it where user info goes on. `last_at` is the index of the last `@` in the text.
fn mask_range(text: &str, range: Range<usize>, last_at: Option<usize>, shown: &mut String) -> usize {
    let mut begin = range.start;
    while last_at.is_some_and(|last| begin < last)
        && let Some(len) = text.get(begin..range.end).and_then(next_authority)
    {
        let authority = begin + len;
        shown.push_str(&text[begin..authority]);
        begin = authority;
        if let Some(at) = user_info_end(text, authority..text.len(), last_at) {
            shown.push_str("***");
            begin = at;
        }
    }
    let end = range.end.max(begin);
    shown.push_str(&text[begin..end]);
    end
}

/// Returns the index behind the next `//`, or behind a scheme that needs no slashes, and its slashes.
fn next_authority(text: &str) -> Option<usize> {
    let is_scheme_at = |end: usize, scheme: &str| {
        let begin = end.checked_sub(scheme.len());
        begin.and_then(|begin| text.get(begin..end)).is_some_and(|name| name.eq_ignore_ascii_case(scheme))
    };
    text.match_indices([':', '/', '\\']).find_map(|(at, found)| {
        let behind = at + found.len();
        let slashes = user_info::slashes(&text[behind..]);
        let begins = match found {
            ":" => user_info::SPECIAL_SCHEMES.iter().any(|scheme| is_scheme_at(at, scheme)),
            _ => slashes > 0,
        };
        begins.then_some(behind + slashes)
    })
}

/// Returns the index of the `@` behind the user info of the authority that begins the range; `None` without user info.
/// `last_at` is the index of the last `@` in the text.
fn user_info_end(text: &str, range: Range<usize>, last_at: Option<usize>) -> Option<usize> {
    let begin = range.start;
    // A `\` ends it only where the scheme is one of the web.
    let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#');
    let rest = &text[range];
    let authority = &rest[..rest.find(ends).unwrap_or(rest.len())];
    if let Some(at) = authority.rfind('@') {
        return Some(begin + at);
    }
    // What follows a colon is a port, or the beginning of a password with characters that end an authority.
    // An IPv6 address has colons of its own.
    let host_end = if authority.starts_with('[') { authority.find(']').map_or(0, |end| end + 1) } else { 0 };
    let (_, port) = authority[host_end..].split_once(':')?;
    let punctuation = ['"', '\'', ',', ';', '.', ')', '>'];
    let port = port.trim_end_matches(punctuation);
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    last_at.filter(|at| !is_port && *at > begin)
}

/// Masks a value that is a URL or a relative reference, or no URL at all.
fn masked(value: &HeaderValue, mask_query: bool) -> Cow<'_, [u8]> {
    match mask_text(&String::from_utf8_lossy(value.as_bytes()), mask_query) {
        Some(masked) => masked.into_bytes().into(),
        None => value.as_bytes().into(),
    }
}

/// Masks the URL behind the number of a `Refresh` field: `5; url=http://a.test/`.
fn mask_refresh(value: &str, mask_query: bool) -> Option<String> {
    let number = |c: char| c.is_whitespace() || c.is_ascii_digit() || matches!(c, '.' | ';' | ',');
    let rest = value.trim_start_matches(number);
    let named = rest.get(..3).filter(|name| name.eq_ignore_ascii_case("url")).and_then(|_| {
        let value = rest[3..].trim_start().strip_prefix('=')?;
        Some(value.trim_start().trim_start_matches(['"', '\'']))
    });
    let url = named.unwrap_or(rest);
    let before = &value[..value.len() - url.len()];
    mask_text(url, mask_query).map(|masked| format!("{before}{masked}"))
}

/// Masks what may be user info in a URL or a relative reference, and its query where that is to be masked. Returns
/// `None` if there is nothing to mask.
fn mask_text(text: &str, mask_query: bool) -> Option<String> {
    let user_info = user_info::authority(text).and_then(|begin| {
        let rest = &text[begin..];
        // What comes before an `@` outside the query is a password at worst, and part of a path at best.
        let path = rest.find(user_info::is_slash).unwrap_or(rest.len());
        let end = rest.find('?').filter(|query| path < *query).unwrap_or(rest.len());
        rest[..end].rfind('@').map(|at| (begin, begin + at))
    });
    let (before, after) = match user_info {
        Some((begin, at)) => (format!("{}***", &text[..begin]), &text[at..]),
        None => (String::new(), text),
    };
    match after.split_once('?').filter(|_| mask_query) {
        Some((path, _)) => Some(format!("{before}{path}?***")),
        None => user_info.map(|_| before + after),
    }
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
        let config = SinkConfig { headers: HeaderCapture::Values, ..SinkConfig::default() };
        let masked = mask_uri(&url, false);
        let captured = CapturedHeaders::take(&headers, &config).unwrap();
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
            (r"\\joe:secret@a.test/x?q=1", r"\\***@a.test/x?q=1", r"\\***@a.test/x?***"),
            (r"http:\\joe:secret@a.test/", r"http:\\***@a.test/", r"http:\\***@a.test/"),
            (r"/\joe:secret@a.test", r"/\***@a.test", r"/\***@a.test"),
            ("http:joe:secret@a.test/", "http:***@a.test/", "http:***@a.test/"),
            ("http:///joe:secret@a.test/", "http:///***@a.test/", "http:///***@a.test/"),
            ("http://joe:se?cret@a.test/?q", "http://***@a.test/?q", "http://***@a.test/?***"),
            ("joe:secret@a.test", "***@a.test", "***@a.test"),
            ("?to=joe@a.test", "?to=joe@a.test", "?***"),
            ("/@joe", "/@joe", "/@joe"),
            ("http://a.test/", "http://a.test/", "http://a.test/"),
        ] {
            for (mask_query, expected) in [(false, shown), (true, without_query)] {
                let config =
                    SinkConfig { headers: HeaderCapture::Values, mask_query, ..SinkConfig::default() };
                let mut headers = HeaderMap::new();
                headers.insert(header::LOCATION, HeaderValue::from_static(location));
                let captured = CapturedHeaders::take(&headers, &config).unwrap().export();
                assert_eq!(captured.get("location").map(|field| field.field_val.as_str()), Some(expected));
            }
        }
    }

    fn shown(name: &str, value: &str) -> String {
        let config = SinkConfig { headers: HeaderCapture::Values, ..SinkConfig::default() };
        let headers = HeaderMap::from_iter([(
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_str(value).unwrap(),
        )]);
        let captured = CapturedHeaders::take(&headers, &config).unwrap().export();
        captured.get(name).unwrap().field_val.clone()
    }

    #[test]
    fn urls_among_other_text_are_masked_too() {
        for (name, value, expected) in [
            ("link", r"<\\joe:secret@b.test>; rel=next", r"<\\***@b.test>; rel=next"),
            ("link", "<http://joe:p>w@h/>; rel=next, </x>", "<http://***@h/>; rel=next, </x>"),
            (
                "link",
                "<http://joe:p>w@h/?q>; rel=next, <//joe:secret@b.test>",
                "<http://***@h/?q>; rel=next, <//***@b.test>",
            ),
            ("link", "<http://joe:p>;w@h/>; rel=next", "<http://***@h/>; rel=next"),
            ("link", "<http://joe:p<w@h/>; rel=next", "<http://***@h/>; rel=next"),
            ("link", r#"</x>; anchor="\\joe:secret@b.test""#, r#"</x>; anchor="\\***@b.test""#),
            ("link", r#"</x>; anchor="http:joe:secret@b.test""#, r#"</x>; anchor="http:***@b.test""#),
            ("link", r"see http:\joe:secret@b.test <x>", r"see http:\***@b.test <x>"),
            ("link", "</x>; rel=author; title=\"joe@b.test\"", "</x>; rel=author; title=\"joe@b.test\""),
            ("link", r#"</x>; anchor="//joe:p<w@b.test""#, r#"</x>; anchor="//***@b.test""#),
            ("refresh", r"5; URL='\\joe:secret@b.test/'", r"5; URL='\\***@b.test/'"),
            ("refresh", "0;http:joe:secret@b.test/", "0;http:***@b.test/"),
            ("refresh", "5; url=/@joe", "5; url=/@joe"),
            ("referer", r"http:\\joe:secret@b.test/", r"http:\\***@b.test/"),
            ("origin", r"http:\joe:secret@b.test", r"http:\***@b.test"),
            ("x-text", "to http://joe:se/cret@h/ and on", "to http://***@h/ and on"),
            ("x-text", "to http://joe:se cret@h/", "to http://***@h/"),
            ("x-text", r"to HTTP:\joe:secret@h/", r"to HTTP:\***@h/"),
            ("x-text", "\"http://h:80\", http://[::1]:81/@joe", "\"http://h:80\", http://[::1]:81/@joe"),
            ("from", "joe@example.com", "joe@example.com"),
            ("from", "Joe: joe@example.com (http://h/@joe)", "Joe: joe@example.com (http://h/@joe)"),
        ] {
            assert_eq!(shown(name, value), expected, "{name}: {value}");
        }
    }

    /// Compares with the parser that clients follow redirects with.
    #[cfg(feature = "client")]
    mod passwords {
        use super::*;
        use percent_encoding::percent_decode_str;
        use proptest::prelude::*;
        use url::Url;

        /// User info and host; between them whatever a header field can hold.
        fn authority(user: &'static str, password: &'static str) -> impl Strategy<Value = String> {
            (user, password, prop_oneof!["h", "b\\.test(:81)?", "\\[::1\\]"])
                .prop_map(|(user, password, host)| format!("{user}:{password}@{host}"))
        }

        fn prefix() -> impl Strategy<Value = String> {
            prop_oneof![
                Just(String::new()),
                "(http|HTTPS|ws|ftp|foo):[/\\\\]{0,4}",
                "[ \t]{0,2}[/\\\\][\t]?[/\\\\]{1,3}",
            ]
        }

        /// What the recorded value must not contain: the password as it is in the text and as a URL has it.
        fn passwords(reference: &str) -> Vec<String> {
            ["http://a.test/x", "https://a.test/x"]
                .into_iter()
                .filter_map(|base| Url::parse(base).unwrap().join(reference).ok())
                .filter_map(|url| url.password().map(String::from))
                .flat_map(|password| {
                    let decoded = percent_decode_str(&password).decode_utf8_lossy().into_owned();
                    [password, decoded]
                })
                .filter(|password| password.len() >= 4)
                .collect()
        }

        fn check(value: &str, reference: &str, names: &[&str]) -> Result<(), TestCaseError> {
            for password in passwords(reference) {
                for name in names {
                    let shown = shown(name, value);
                    prop_assert!(!shown.contains(&password), "{name}: {shown} of {value}");
                }
            }
            Ok(())
        }

        proptest! {
            /// In a field that holds a URL.
            #[test]
            fn of_urls(prefix in prefix(), authority in authority("[!-~]{0,4}", "[\t -~]{0,9}q1q1[ -~]{0,3}"), path in "(/[!-~]{0,6})?") {
                let url = format!("{prefix}{authority}{path}");
                check(&url, &url, &["location", "content-location", "referer", "origin", "destination"])?;
                check(&format!("5; url={url}"), url.trim(), &["refresh"])?;
                for password in passwords(&url) {
                    prop_assert!(!user_info::without_user_info(&url).contains(&password), "{url}");
                }
            }

            /// In a text and among links, where white space and angle brackets end a user's name, and where a number
            /// behind the colon may be a port.
            #[test]
            fn among_text(prefix in prefix(), authority in authority("[a-z!-.]{0,4}", "[!-/:-~]{0,9}q1q1[!-~]{0,3}"), path in "(/[a-z]{0,6})?") {
                let url = format!("{}{authority}{path}", prefix.trim());
                check(&format!("see {url} there"), &url, &["x-text"])?;
                if !url.contains('<') {
                    // It begins the next reference.
                    check(&format!("<{url}>; rel=next"), &url, &["link"])?;
                }
                check(&format!("</x>; anchor=\"{url}\""), &url, &["link"])?;
            }
        }
    }

    #[test]
    fn secrets_come_out_only_when_named() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer 123"));
        headers.insert(header::COOKIE, HeaderValue::from_static("a=b"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        let mut config = SinkConfig { headers: HeaderCapture::Values, ..SinkConfig::default() };
        config.reveal_headers.push(header::COOKIE);
        let captured = CapturedHeaders::take(&headers, &config).unwrap().export();
        assert_eq!(captured.get("Authorization").map(|field| field.field_val.as_str()), Some(""));
        assert_eq!(captured.get("authorization").map(|field| field.field_val_len), Some(10));
        assert_eq!(captured.get("cookie").map(|field| field.field_val.as_str()), Some("a=b"));
        assert_eq!(captured.get("accept").map(|field| field.field_val.as_str()), Some("*/*"));
    }
}
