//! The host in a target or a URL.

use crate::record::Text;

/// Returns the host of `host:port`, without the brackets of an IPv6 address.
pub(super) fn host_of(target: &str) -> &str {
    without_brackets(target.rsplit_once(':').map_or(target, |(host, _)| host))
}

/// Returns the host of a URL, without the brackets of an IPv6 address.
pub(super) fn host_of_url(url: &str) -> Text {
    let url = url.parse::<http::Uri>().ok();
    url.and_then(|url| url.host().map(|host| without_brackets(host).into())).unwrap_or_default()
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}
