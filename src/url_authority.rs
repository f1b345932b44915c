//! The authority of a URL in a record.

/// Returns the host and port of a URL, without user info. A text without a scheme is one that begins with them.
pub(crate) fn url_authority(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_, after)| after);
    let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

/// Returns the scheme of a URL, empty if it has none.
#[cfg(feature = "otlp-json")]
pub(crate) fn url_scheme(url: &str) -> &str {
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    if scheme.contains(['/', '?', '#']) { "" } else { scheme }
}

/// Returns the path of a URL and its query, empty if it has none.
#[cfg(feature = "otlp-json")]
pub(crate) fn url_path_and_query(url: &str) -> (&str, &str) {
    let without_fragment = url.split('#').next().unwrap_or_default();
    let target = match url_scheme(url) {
        "" => without_fragment,
        scheme => {
            let after = &without_fragment[scheme.len() + "://".len()..];
            after.find(['/', '?']).map_or("", |at| &after[at..])
        }
    };
    target.split_once('?').unwrap_or((target, ""))
}

/// Returns the host of a URL, or of the authority that a CONNECT request names, and the port, also if it is the default
/// one of the scheme.
pub(crate) fn url_host_and_port(url: &str) -> (Option<&str>, Option<u16>) {
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
    (Some(host).filter(|host| !host.is_empty() && *host != "*"), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_found() {
        for (url, expected) in [
            ("https://shop.test:8443/x?y#z", "shop.test:8443"),
            ("http://joe:secret@shop.test", "shop.test"),
            ("http://[::1]:81/a@b", "[::1]:81"),
            ("shop.test:443", "shop.test:443"),
            ("", ""),
        ] {
            assert_eq!(url_authority(url), expected);
        }
    }

    #[cfg(feature = "otlp-json")]
    #[test]
    fn the_scheme_path_and_query_are_found() {
        for (url, expected) in [
            ("https://a.test/b/c?d=http://e.test/#f", ("https", "/b/c", "d=http://e.test/")),
            ("http://***@[::1]:1/?***", ("http", "/", "***")),
            ("http://a.test?b", ("http", "", "b")),
            ("http://a.test", ("http", "", "")),
            ("/a?b=http://c.test", ("", "/a", "b=http://c.test")),
            ("*", ("", "*", "")),
            ("http://#/a", ("http", "", "")),
            ("", ("", "", "")),
        ] {
            let (path, query) = url_path_and_query(url);
            assert_eq!((url_scheme(url), path, query), expected, "{url}");
        }
    }

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
            assert_eq!(url_host_and_port(url), expected, "{url}");
        }
        assert_eq!(url_host_and_port("https://a.test/a/very/long/…"), (Some("a.test"), Some(443)));
        assert_eq!(url_host_and_port(""), (None, None));
    }
}
