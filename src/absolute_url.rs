//! The URL of a request that was read from a connection.

use http::{
    Uri,
    uri::{Authority, PathAndQuery},
};

/// Returns the absolute URL that the client requested. HTTP/1 sends only the path, and the host in the header field
/// `Host` (RFC 9112 section 3.3).
///
/// The URL is a copy. The parsed one shares its memory with the whole head, secrets included, which must not be kept as
/// long as the record.
pub(crate) fn absolute<'a>(uri: &Uri, host: impl FnOnce() -> Option<&'a str>, is_secure: bool) -> Uri {
    let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let copy = |parts: &[&str]| Uri::try_from(parts.concat()).ok();
    let with_host = || {
        let host = host()?;
        let scheme = if is_secure { "https://" } else { "http://" };
        // Rejects a `Host` field that contains more than a host.
        copy(&[scheme, host, path]).filter(|whole| whole.authority().map(Authority::as_str) == Some(host))
    };
    let whole = match (uri.scheme_str(), uri.authority().map(Authority::as_str)) {
        (Some(scheme), Some(authority)) => copy(&[scheme, "://", authority, path]),
        (None, Some(authority)) => copy(&[authority, path]),
        (_, None) if path.starts_with('/') => with_host().or_else(|| copy(&[path])),
        (_, None) => copy(&[path]),
    };
    whole.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn paths_become_urls() {
        for (uri, host, is_secure, url) in [
            ("/a?b", "web.test:81", false, "http://web.test:81/a?b"),
            ("/", "[::1]", true, "https://[::1]/"),
            ("http://other.test/a", "web.test", true, "http://other.test/a"),
            ("http://other.test?a", "web.test", true, "http://other.test/?a"),
            ("web.test:443", "web.test", true, "web.test:443"), // CONNECT
            ("*", "web.test", false, "*"),
            ("/a", "no host", false, "/a"),
            ("/a", "web.test/b?", false, "/a"),
            ("/a", "", false, "/a"),
        ] {
            assert_eq!(absolute(&uri.parse().unwrap(), || Some(host), is_secure).to_string(), url);
        }
        assert_eq!(absolute(&"/a".parse().unwrap(), || None, true), "/a");
    }

    #[test]
    fn urls_do_not_keep_the_read_buffer() {
        for line in ["/a?b", "http://web.test/", "web.test:443", "*"] {
            let head = Bytes::from(format!("{line} rest"));
            let uri = Uri::from_maybe_shared(head.slice(..line.len())).unwrap();
            let url = absolute(&uri, || Some("web.test"), false);
            drop(uri);
            assert!(head.is_unique() && url.to_string().contains(line), "{url}");
        }
    }
}
