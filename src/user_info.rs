//! Masks user info in texts that may be URLs.
//!
//! A password must not get into a trace or a message, not even from a URL that no parser accepts. So these functions
//! search for the `@` instead of parsing, and read the text as the WHATWG URL standard does (`\` is a slash, and
//! `http:` needs none), because clients follow it.

/// The schemes of the URL standard that have a host and need no slashes before it.
pub(crate) const SPECIAL_SCHEMES: [&str; 5] = ["http", "https", "ws", "wss", "ftp"];

/// Replaces the user info of a text by `***`: everything between the scheme, if there is one, and the last `@`.
///
/// For messages about a text that may not be a URL.
#[cfg(any(test, feature = "resolve"))]
pub(crate) fn without_user_info(text: &str) -> String {
    let begin = authority(text).unwrap_or(0);
    match text[begin..].rfind('@') {
        Some(at) => format!("{}***{}", &text[..begin], &text[begin + at..]),
        None => text.into(),
    }
}

/// Returns the index of the authority of a URL or relative reference: the text after `scheme:` and the slashes. Returns
/// `None` for a path with a leading slash, a query or a fragment, which have no authority.
///
/// A reference without slashes counts as an authority, since it may be an address.
pub(crate) fn authority(text: &str) -> Option<usize> {
    let text_begin = text.len() - text.trim_start_matches(is_ignored).len();
    let rest = &text[text_begin..];
    let scheme = scheme(rest);
    let slashes = slashes(&rest[scheme..]);
    let is_path = scheme == 0 && rest[..slashes].matches(is_slash).count() == 1;
    let is_suffix = scheme == 0 && rest.starts_with(['?', '#']);
    (!is_path && !is_suffix).then_some(text_begin + scheme + slashes)
}

/// Returns `true` for the characters that separate the parts of a URL with the scheme `http` or `https`.
pub(crate) fn is_slash(c: char) -> bool {
    matches!(c, '/' | '\\')
}

/// Returns the length of the leading slashes.
pub(crate) fn slashes(text: &str) -> usize {
    let rest = text.trim_start_matches(|c| is_slash(c) || is_ignored(c));
    // Spaces after or instead of slashes are not counted.
    text[..text.len() - rest.len()].rfind(is_slash).map_or(0, |last| last + 1)
}

/// Returns the length of `scheme:`, or 0 if the text has none. Text before a colon without following slashes is a user
/// name or a host, unless it is a scheme that needs no slashes.
fn scheme(text: &str) -> usize {
    let Some((name, rest)) = text.split_once(':') else { return 0 };
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let is_special = SPECIAL_SCHEMES.iter().any(|special| name.eq_ignore_ascii_case(special));
    if is_name && (is_special || slashes(rest) > 0) { name.len() + 1 } else { 0 }
}

/// Returns `true` for characters that the URL standard removes: leading controls and spaces, tabs and line feeds
/// anywhere.
fn is_ignored(c: char) -> bool {
    c <= ' '
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn possible_passwords_are_replaced() {
        for (text, shown) in [
            ("http://joe:secret@a.test/", "http://***@a.test/"),
            ("http:/joe:secret@a.test/", "http:/***@a.test/"),
            ("HTTPS:joe:secret@a.test/", "HTTPS:***@a.test/"),
            (r"http:\\joe:secret@a.test/", r"http:\\***@a.test/"),
            (r"\/joe:secret@a.test/", r"\/***@a.test/"),
            ("http:\t/\t/joe:secret@a.test", "http:\t/\t/***@a.test"),
            ("ftp://joe:se/c?r#et@a.test", "ftp://***@a.test"),
            ("joe:secret@a.test", "***@a.test"),
            ("/joe:secret@a.test", "***@a.test"),
            ("http://a.test/", "http://a.test/"),
            ("", ""),
        ] {
            assert_eq!(without_user_info(text), shown);
        }
    }

    #[test]
    fn paths_have_no_authority() {
        for (text, begin) in [
            ("/@joe", None),
            (r" \@joe", None),
            ("?to=joe@a.test", None),
            ("#joe@a.test", None),
            ("//joe@a.test", Some(2)),
            (" //joe@a.test", Some(3)),
            ("foo:/joe@a.test", Some(5)),
            ("localhost:80", Some(0)),
        ] {
            assert_eq!(authority(text), begin, "{text}");
        }
    }
}
