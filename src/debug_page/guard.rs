//! Decides whether a request comes from somebody who may send it, and not by way of a page of another origin.
//!
//! A browser sends a request of another origin with a header field of its own only after it has asked for leave (a CORS
//! preflight), which is not given. `Sec-Fetch-Site` and `Origin` are checked in addition.

use http::{HeaderMap, Uri, header, uri::Authority};

/// The header field that a POST must have.
pub(super) const HEADER_NAME: &str = "x-nettrace";

/// Checks the header of a POST.
///
/// # Errors
///
/// Returns why it is refused, and what to do.
pub(super) fn check(uri: &Uri, headers: &HeaderMap) -> Result<(), &'static str> {
    if headers.get(HEADER_NAME).is_none_or(|value| value != "1") {
        return Err(
            "the header field X-Nettrace is missing: send it with the value 1, as in curl -X POST -H 'X-Nettrace: 1' URL",
        );
    }
    match headers.get("sec-fetch-site") {
        Some(site) if site == "same-origin" || site == "none" => Ok(()),
        Some(_) => Err("the request comes from a page of another site: send it from the debug page"),
        None if is_same_origin(uri, headers) => Ok(()),
        None => Err(
            "the field Origin is not that of the host: send the request from the debug page, or without Origin",
        ),
    }
}

/// Returns `true` if the request was sent to one of these hosts, with any port.
///
/// A page of another origin whose name is made to resolve to this host (DNS rebinding) has that name as its host.
pub(super) fn is_to_one_of(hosts: &[String], uri: &Uri, headers: &HeaderMap) -> bool {
    let host = host(uri, headers).and_then(|host| host.parse::<Authority>().ok());
    host.is_some_and(|host| {
        let name = host.host().trim_matches(['[', ']']);
        hosts.iter().any(|known| known.trim_matches(['[', ']']).eq_ignore_ascii_case(name))
    })
}

/// Returns `true` if the origin, if there is one, is the host that the request was sent to.
fn is_same_origin(uri: &Uri, headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    origin.zip(host(uri, headers)).is_some_and(|((_, origin), host)| origin.eq_ignore_ascii_case(host))
}

/// Returns the host and port that the request was sent to.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let host = uri.authority().map(Authority::as_str);
    host.or_else(|| headers.get(header::HOST)?.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_with(fields: &[(&'static str, &'static str)]) -> bool {
        let fields = fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        check(&Uri::from_static("/recording"), &HeaderMap::from_iter(fields)).is_ok()
    }

    #[test]
    fn the_header_field_is_required() {
        assert!(!check_with(&[]));
        assert!(!check_with(&[("x-nettrace", "0")]));
        assert!(!check_with(&[("sec-fetch-site", "same-origin")]));
        assert!(check_with(&[("x-nettrace", "1")]));
        assert!(check_with(&[("x-nettrace", "1"), ("sec-fetch-site", "same-origin"), ("origin", "null")]));
    }

    #[test]
    fn other_origins_are_refused() {
        for fields in [
            &[("x-nettrace", "1"), ("sec-fetch-site", "cross-site")][..],
            &[("x-nettrace", "1"), ("sec-fetch-site", "same-site")],
            &[("x-nettrace", "1"), ("origin", "https://evil.test"), ("host", "h.test")],
            &[("x-nettrace", "1"), ("origin", "http://h.test:81"), ("host", "h.test")],
            &[("x-nettrace", "1"), ("origin", "null"), ("host", "h.test")],
            &[("x-nettrace", "1"), ("origin", "http://h.test")],
        ] {
            assert!(!check_with(fields), "{fields:?}");
        }
        assert!(check_with(&[("x-nettrace", "1"), ("origin", "http://H.test:81"), ("host", "h.test:81")]));
        let uri = Uri::from_static("https://h.test/recording");
        let fields = [("x-nettrace", "1"), ("origin", "https://h.test")]
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        assert!(check(&uri, &HeaderMap::from_iter(fields)).is_ok(), "HTTP/2 has the host in the URI");
    }

    #[test]
    fn hosts_are_compared_without_their_port() {
        let hosts = ["localhost", "127.0.0.1", "::1"].map(String::from);
        let is_known = |host: &str| {
            let headers = HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]);
            is_to_one_of(&hosts, &Uri::from_static("/"), &headers)
        };
        for known in ["localhost", "LOCALHOST:81", "127.0.0.1:6060", "[::1]:6060", "[::1]"] {
            assert!(is_known(known), "{known}");
        }
        for unknown in ["evil.test", "localhost.evil.test:81", "", "127.0.0.2", "a b"] {
            assert!(!is_known(unknown), "{unknown}");
        }
        assert!(!is_to_one_of(&hosts, &Uri::from_static("/"), &HeaderMap::new()));
        assert!(is_to_one_of(&hosts, &Uri::from_static("http://localhost:81/"), &HeaderMap::new()));
    }
}
