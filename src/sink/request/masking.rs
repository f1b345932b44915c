//! Passwords, user info and queries in URLs and header fields, replaced by `***`.
//!
//! A text from a peer need not be a well-formed URL, and clients follow more than RFC 3986 allows: what one of them
//! would take for user info is masked. Where that cannot be told, too much is masked rather than too little.

use crate::user_info;
use http::{
    HeaderValue, Uri,
    uri::{Authority, PathAndQuery},
};
use std::{borrow::Cow, ops::Range};

/// The names of authentication schemes; what follows one is replaced by `***`.
pub(super) fn schemes(challenges: &str) -> String {
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
pub(super) fn mask_links(links: &str, mask_query: bool) -> String {
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
pub(super) fn mask_in_text(text: &str) -> String {
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
pub(super) fn mask_reference(value: &HeaderValue, mask_query: bool) -> Cow<'_, [u8]> {
    match mask_text(&String::from_utf8_lossy(value.as_bytes()), mask_query) {
        Some(masked) => masked.into_bytes().into(),
        None => value.as_bytes().into(),
    }
}

/// Masks the URL behind the number of a `Refresh` field: `5; url=http://a.test/`.
pub(super) fn mask_refresh(value: &str, mask_query: bool) -> Option<String> {
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
#[cfg(feature = "client")]
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
    fn user_info_is_masked() {
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
}
