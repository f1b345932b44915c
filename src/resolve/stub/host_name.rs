//! Converts a host into the names that are looked up for it.

use std::net::{IpAddr, Ipv6Addr};

/// The maximum length of a domain name as text, without its final dot: 255 octets on the wire (RFC 1035 section 2.3.4)
/// less those for the first label's length and the root.
const MAX_NAME_CHARS: usize = 253;
const MAX_LABEL_CHARS: usize = 63;

/// Parses a host that is an address: `192.0.2.1`, `2001:db8::1` or `[2001:db8::1]`.
pub(super) fn parse_literal(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

/// Checks that `name` is a host name by the rules of Go's resolver.
///
/// It has letters, digits, `-` and `_`, in labels of 1 to 63 octets that neither begin nor end with `-`, and is not
/// only digits and dots.
///
/// # Errors
///
/// The rule that it breaks, as a text.
pub(super) fn validate(name: &str) -> Result<(), &'static str> {
    if name == "." {
        return Ok(());
    }
    let relative = name.strip_suffix('.').unwrap_or(name);
    if relative.is_empty() {
        return Err("the name is empty");
    }
    if relative.len() > MAX_NAME_CHARS {
        return Err("the name is longer than 253 characters");
    }
    let mut only_numbers = true;
    for label in relative.split('.') {
        if label.is_empty() {
            return Err("a label is empty");
        }
        if label.len() > MAX_LABEL_CHARS {
            return Err("a label is longer than 63 characters");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err("a label begins or ends with a hyphen");
        }
        if !label.is_ascii() {
            return Err("a character is not ASCII (give an internationalised name in its xn-- form)");
        }
        if !label.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_')) {
            return Err("a character is neither letter, digit, hyphen nor underscore");
        }
        only_numbers &= label.bytes().all(|c| c.is_ascii_digit());
    }
    if only_numbers { Err("it has the form of an IPv4 address but is none") } else { Ok(()) }
}

/// Returns `true` for `localhost` and every name below it, which are the loopback addresses and never looked up (RFC
/// 6761 section 6.3).
pub(super) fn is_localhost(name: &str) -> bool {
    is_at_or_below(name, "localhost")
}

/// Returns `true` for `onion` and every name below it, which must not be sent to a nameserver (RFC 7686 section 2).
fn is_onion(name: &str) -> bool {
    is_at_or_below(name, "onion")
}

/// Returns the absolute names (with their final dot) to look up for `name`, in order.
///
/// A name with at least `ndots` dots is tried as given first, others after the domains of `search` (which are absolute)
/// were appended. A name with a final dot is absolute: nothing else is tried. Names that are too long are left out, and
/// so is everything below `.onion`; for such a name nothing is left, since its suffixed forms would reveal it too.
pub(super) fn candidates(name: &str, search: &[String], ndots: usize) -> Vec<String> {
    if is_onion(name) {
        return Vec::new();
    }
    if name.ends_with('.') {
        return vec![name.to_owned()];
    }
    let absolute = format!("{name}.");
    let suffixed =
        search.iter().map(|suffix| if suffix == "." { absolute.clone() } else { format!("{name}.{suffix}") });
    let is_tried_as_given_first = name.bytes().filter(|&c| c == b'.').count() >= ndots;

    let mut names = Vec::with_capacity(1 + search.len());
    if is_tried_as_given_first {
        names.push(absolute.clone());
    }
    names.extend(suffixed);
    names.push(absolute);
    let mut kept: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        if name.len() <= MAX_NAME_CHARS + 1 && !is_onion(&name) && !kept.contains(&name) {
            kept.push(name);
        }
    }
    kept
}

fn is_at_or_below(name: &str, domain: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).as_bytes();
    let Some(start) = name.len().checked_sub(domain.len()) else { return false };
    name[start..].eq_ignore_ascii_case(domain.as_bytes()) && (start == 0 || name[start - 1] == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_parsed_with_and_without_brackets() {
        assert_eq!(parse_literal("192.0.2.1"), Some([192, 0, 2, 1].into()));
        assert_eq!(parse_literal("2001:db8::1"), "2001:db8::1".parse().ok());
        assert_eq!(parse_literal("[::1]"), Some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
        for no in ["[192.0.2.1]", "[::1", "::1]", "192.0.2", "example.org", "", "[]"] {
            assert_eq!(parse_literal(no), None, "{no}");
        }
    }

    #[test]
    fn valid_names_are_accepted() {
        let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        assert_eq!(longest.len(), 253);
        let rooted = format!("{longest}.");
        for name in [
            "a",
            "a.",
            ".",
            "a-b.example",
            "_dmarc.example.org",
            "1a.2",
            "xn--bcher-kva.example",
            &longest,
            &rooted,
        ] {
            assert_eq!(validate(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn invalid_names_are_rejected() {
        let long_label = "a".repeat(64);
        let long_name = ["a"; 128].join(".");
        for name in [
            "",
            "..",
            "a..b",
            ".a",
            "-a.b",
            "a-.b",
            "a b",
            "a/b",
            "bücher.example",
            "1.2.3",
            "256.1.1.1",
            "a\0b",
            "fe80::1%eth0",
            &long_label,
            &long_name,
        ] {
            assert!(validate(name).is_err(), "{name}");
        }
    }

    #[test]
    fn localhost_and_onion_names_are_recognised() {
        for name in ["localhost", "LOCALHOST.", "a.localhost", "a.b.Localhost."] {
            assert!(is_localhost(name), "{name}");
        }
        for name in ["notlocalhost", "localhost.example", "host", ""] {
            assert!(!is_localhost(name), "{name}");
        }
        assert!(is_onion("abc.ONION.") && !is_onion("myonion"));
    }

    #[test]
    fn candidates_follow_the_search_list() {
        let search = ["corp.example.".to_owned(), "example.".to_owned()];
        assert_eq!(candidates("www", &search, 1), ["www.corp.example.", "www.example.", "www."]);
        assert_eq!(candidates("www.a", &search, 1), ["www.a.", "www.a.corp.example.", "www.a.example."]);
        assert_eq!(candidates("www.a", &search, 2), ["www.a.corp.example.", "www.a.example.", "www.a."]);
        assert_eq!(candidates("www", &search, 0), ["www.", "www.corp.example.", "www.example."]);
        assert_eq!(candidates("www.", &search, 1), ["www."]);
        assert_eq!(candidates("www", &[], 1), ["www."]);
        assert_eq!(candidates("www", &[".".to_owned()], 1), ["www."]);
        assert!(candidates("x.onion", &search, 1).is_empty());
        assert!(candidates("x.onion.", &search, 1).is_empty());
        assert_eq!(candidates("x", &["onion.".to_owned()], 1), ["x."]);
    }

    #[test]
    fn candidates_that_are_too_long_are_left_out() {
        let name = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(50));
        let search = ["corp.example.org.".to_owned()];
        assert_eq!(candidates(&name, &search, 1), [format!("{name}.")]);
    }
}
