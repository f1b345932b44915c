//! The URL that a client asked for.

use http::{
    HeaderMap, Uri,
    header::HOST,
    uri::{Authority, Parts, Scheme},
};
use std::borrow::Cow;

/// As the client has it: HTTP/1 sends the path alone, and the host in a header field (RFC 9112 section 3.3).
pub(super) fn absolute<'a>(uri: &'a Uri, headers: &HeaderMap, is_secure: bool) -> Cow<'a, Uri> {
    let whole = || {
        let host = headers.get(HOST)?;
        let path_and_query = uri.path_and_query().filter(|path| path.as_str().starts_with('/'))?.clone();
        let mut parts = Parts::default();
        parts.scheme = Some(if is_secure { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = Some(Authority::try_from(host.as_bytes()).ok()?);
        parts.path_and_query = Some(path_and_query);
        Uri::from_parts(parts).ok()
    };
    if uri.authority().is_some() {
        Cow::Borrowed(uri)
    } else {
        whole().map_or(Cow::Borrowed(uri), Cow::Owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_urls() {
        let with_host = |host: &str| HeaderMap::from_iter([(HOST, host.parse().unwrap())]);
        for (uri, host, is_secure, url) in [
            ("/a?b", "web.test:81", false, "http://web.test:81/a?b"),
            ("/", "[::1]", true, "https://[::1]/"),
            ("http://other.test/a", "web.test", true, "http://other.test/a"),
            ("web.test:443", "web.test", true, "web.test:443"), // CONNECT
            ("*", "web.test", false, "*"),
            ("/a", "no host", false, "/a"),
            ("/a", "", false, "/a"),
        ] {
            assert_eq!(absolute(&uri.parse().unwrap(), &with_host(host), is_secure).to_string(), url);
        }
        assert_eq!(*absolute(&"/a".parse().unwrap(), &HeaderMap::new(), true), "/a");
    }
}
