//! The URL of a request, from what its head says.

use super::context::WireContext;
use crate::absolute_url::absolute;
use http::{Method, Uri, uri::Authority};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

/// Returns the URL of an HTTP/1 request with this target (RFC 9112 section 3.2). If the request names no host, that is
/// the one that was dialed.
pub(super) fn from_target(method: &Method, target: &str, host: Option<&[u8]>, context: &WireContext) -> Uri {
    let named = host.and_then(|host| std::str::from_utf8(host).ok()).filter(|host| !host.is_empty());
    let host = named.or_else(|| context.dialed.as_ref().map(Authority::as_str));
    if target.starts_with('/')
        && let Some(host) = host
        && let Some(url) = joined(context.is_secure, host, target)
    {
        return url;
    }
    let parsed = if *method == Method::CONNECT {
        target.parse::<Authority>().ok().map(Uri::from)
    } else {
        target.parse().ok().or_else(|| encoded(target.as_bytes()))
    };
    parsed.map_or_else(Uri::default, |target| absolute(&target, || host, context.is_secure))
}

/// Returns the URL of a path on a host, which is the usual case, with one allocation and one scan.
fn joined(is_secure: bool, host: &str, path: &str) -> Option<Uri> {
    // Anything else could end the host early.
    let is_host =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'-' | b'_' | b'[' | b']');
    let scheme = if is_secure { "https://" } else { "http://" };
    host.bytes().all(is_host).then(|| Uri::try_from([scheme, host, path].concat()).ok())?
}

/// Returns the URL of an HTTP/2 request with these pseudo-header fields (RFC 9113 section 8.3.1). If the request names no
/// host, that is the one that was dialed.
pub(super) fn from_pseudo_fields(
    method: &Method,
    is_secure: bool,
    authority: &[u8],
    path: &[u8],
    context: &WireContext,
) -> Uri {
    let dialed = || context.dialed.as_ref().map_or(&b""[..], |dialed| dialed.as_str().as_bytes());
    let authority = if authority.is_empty() { dialed() } else { authority };
    let scheme: &[u8] = match (*method == Method::CONNECT && path.is_empty(), is_secure) {
        _ if authority.is_empty() => b"",
        (true, _) => b"",
        (false, true) => b"https://",
        (false, false) => b"http://",
    };
    // `*` is the path of OPTIONS for the whole server, which is no part of a URL.
    let path = if path == b"*" { b"" } else { path };
    let whole = [scheme, authority, path].concat();
    Uri::try_from(&whole[..]).ok().or_else(|| encoded(&whole)).unwrap_or_default()
}

/// Returns the URL with what the `http` crate does not accept percent-encoded, so that the rest of it can be read.
#[cold]
fn encoded(url: &[u8]) -> Option<Uri> {
    const REJECTED: &AsciiSet = &CONTROLS
        .add(b' ')
        .add(b'"')
        .add(b'<')
        .add(b'>')
        .add(b'\\')
        .add(b'^')
        .add(b'`')
        .add(b'{')
        .add(b'|')
        .add(b'}');
    percent_encode(url, REJECTED).to_string().parse().ok()
}
