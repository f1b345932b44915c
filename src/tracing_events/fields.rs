//! The values of fields that several events have.

use crate::record::{EndReason, Failure, HttpReqTrace, Timestamp, TraceId};
use tracing::Level;

pub(super) fn level(reason: Option<&EndReason>, usual: Level) -> Level {
    if has_failed(reason) { Level::WARN } else { usual }
}

pub(super) fn has_failed(reason: Option<&EndReason>) -> bool {
    reason.is_some_and(EndReason::is_failure)
}

pub(super) fn is_success(record: &HttpReqTrace) -> bool {
    record.failure.is_none() && !has_failed(record.end_reason.as_ref())
}

pub(super) fn id(id: &TraceId) -> Option<&str> {
    Some(id.as_str()).filter(|id| !id.is_empty())
}

/// The field `nettrace.accepted`, which is present only on the server's side.
pub(super) fn accepted(is: bool) -> Option<bool> {
    is.then_some(true)
}

pub(super) fn text(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

pub(super) fn number(number: u16) -> Option<u16> {
    Some(number).filter(|number| *number != 0)
}

pub(super) fn code(failure: &Option<Failure>) -> Option<&str> {
    failure.as_ref().map(Failure::as_str)
}

pub(super) fn reason(reason: &Option<EndReason>) -> Option<&str> {
    reason.as_ref().map(EndReason::as_str)
}

/// Returns the outcome in a word, for the message.
pub(super) fn outcome<'a>(failure: &'a Option<Failure>, end: &'a Option<EndReason>) -> &'a str {
    code(failure).or(reason(end)).unwrap_or_default()
}

pub(super) fn milliseconds(begin: Timestamp, end: Timestamp) -> Option<f64> {
    if begin.is_undefined() || end.is_undefined() {
        return None;
    }
    end.since(begin).map(|time| time.as_secs_f64() * 1e3)
}

pub(super) fn host_and_port(address: &str) -> (Option<&str>, Option<u16>) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    (text(host), port.parse().ok())
}

/// Returns the host of a URL, or of the authority that a CONNECT request names, and the port, also if it is the default
/// one of the scheme.
pub(super) fn host_and_port_of_url(url: &str) -> (Option<&str>, Option<u16>) {
    // Without a scheme it is only a path, or only an authority.
    let parts = url.split_once(':').filter(|(scheme, _)| !scheme.contains('/'));
    let parts = parts.and_then(|(scheme, after)| Some((scheme, after.strip_prefix("//")?)));
    let (scheme, after) = parts.unwrap_or(("", url));
    let authority = after.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, address)| address);
    let host_bytes = match authority.find(']') {
        Some(end_of_ipv6) => end_of_ipv6 + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(host_bytes);
    let port = port.strip_prefix(':').and_then(|port| port.parse().ok());
    let port = port.or(match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    });
    (text(host).filter(|host| *host != "*"), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_and_the_port_of_a_url_are_those_of_its_uri() {
        for url in [
            "http://a.test",
            "http://a.test/",
            "https://a.test:8443/a/b:1?c=d@e",
            "https://a.test?c=http://b.test:1/",
            "http://***@a.test:1/",
            "http://[::1]:1/?",
            "https://[2001:db8::1]/",
            "ftp://a.test/b",
            "a.test",
            "a.test:80",
            "/a?b=http://c.test",
            "/",
            "*",
        ] {
            let uri: http::Uri = url.parse().unwrap();
            let default_port = match uri.scheme_str() {
                Some("http") => Some(80),
                Some("https") => Some(443),
                _ => None,
            };
            let expected = (uri.host(), uri.port_u16().or(default_port));
            assert_eq!(host_and_port_of_url(url), expected, "{url}");
        }
        assert_eq!(host_and_port_of_url("https://a.test/a/very/long/…"), (Some("a.test"), Some(443)));
        assert_eq!(host_and_port_of_url(""), (None, None));
    }
}
