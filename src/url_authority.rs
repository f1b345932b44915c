//! The authority of a URL in a record.

/// Returns the host and port of a URL, without user info. A text without a scheme is one that begins with them.
pub(crate) fn url_authority(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_, after)| after);
    let authority = after_scheme.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
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
}
