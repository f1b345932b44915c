//! The destination of a dial, in the forms that a program may give it.

use super::layer::host_and_port;
use crate::{record::Text, user_info::without_user_info};
use http::Uri;
use std::net::{IpAddr, SocketAddr};

/// A destination: an address, or the name of a host, with a port.
///
/// Converts from `"host:port"`, `(host, port)`, a `SocketAddr`, or a URI that has a port or a scheme with a default
/// one. An invalid destination is reported when it is connected to.
///
/// ```
/// use nettrace::connect::Target;
///
/// assert_eq!(Target::from("[::1]:80"), Target::from(("::1", 80)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name, or an address without brackets.
    pub(crate) host: String,
    /// The port, or why the destination is invalid.
    pub(crate) port: Result<u16, &'static str>,
}

impl Target {
    /// Returns `host:port`, with brackets around an IPv6 address.
    pub(crate) fn to_text(&self) -> Text {
        match self.port {
            Ok(port) if self.host.contains(':') => {
                Text::concat(["[", &self.host, "]:", itoa::Buffer::new().format(port)])
            }
            Ok(port) => host_and_port(&self.host, port),
            Err(_) => self.host.as_str().into(),
        }
    }

    /// Reads the destination of a URI. Without a port, that of its scheme is taken.
    pub(crate) fn of_uri(uri: &Uri) -> Self {
        let host = uri.host().unwrap_or_default();
        let port = uri.port_u16().or(match uri.scheme_str() {
            Some("https" | "wss") => Some(443),
            Some("http" | "ws") => Some(80),
            _ => None,
        });
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port =
            if host.is_empty() { Err("the URI names no host") } else { port.ok_or("the URI names no port") };
        Target { host: host.into(), port }
    }
}

impl From<&str> for Target {
    fn from(text: &str) -> Self {
        let invalid = |why| Target { host: without_user_info(text), port: Err(why) };
        if text.contains('@') {
            return invalid("user info has no place here: write host:port");
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return invalid("a port is missing: write host:port");
        };
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if bracketed.is_none() && host.contains(':') {
            return invalid("write an IPv6 address with brackets: [::1]:80");
        }
        let host = bracketed.unwrap_or(host);
        match port.parse() {
            _ if host.is_empty() => invalid("a host is missing: write host:port"),
            Ok(port) => Target { host: host.into(), port: Ok(port) },
            Err(_) => invalid("the port is not a number up to 65535"),
        }
    }
}

impl From<String> for Target {
    fn from(text: String) -> Self {
        Target::from(text.as_str())
    }
}

impl From<SocketAddr> for Target {
    fn from(addr: SocketAddr) -> Self {
        Target { host: addr.ip().to_string(), port: Ok(addr.port()) }
    }
}

impl From<(IpAddr, u16)> for Target {
    fn from((ip, port): (IpAddr, u16)) -> Self {
        Target::from(SocketAddr::new(ip, port))
    }
}

impl From<(&str, u16)> for Target {
    fn from((host, port): (&str, u16)) -> Self {
        let port = if host.contains('@') { Err("user info has no place here") } else { Ok(port) };
        Target { host: without_user_info(host), port }
    }
}

impl From<Uri> for Target {
    fn from(uri: Uri) -> Self {
        Target::of_uri(&uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_parsed_from_texts_uris_and_pairs() {
        assert_eq!(Target::from("db.internal:5432").to_text(), "db.internal:5432");
        assert_eq!(Target::from("[::1]:80").to_text(), "[::1]:80");
        assert_eq!(Target::from("[::1]:80").host, "::1");
        assert_eq!(Target::from(Uri::from_static("https://[::1]/x")).to_text(), "[::1]:443");
        assert_eq!(Target::from(("localhost", 1)).to_text(), "localhost:1");
        for bad in ["localhost", "::1", "x:70000", ":80", ""] {
            assert!(Target::from(bad).port.is_err(), "{bad}");
        }
    }

    #[test]
    fn targets_hold_no_user_info() {
        for bad in ["joe:secret@host:80", "http://joe:secret@host:80", "joe:secret@", "a@b:secret@host"] {
            let target = Target::from(bad);
            assert!(target.port.is_err());
            assert!(!format!("{target:?} {}", target.to_text()).contains("secret"), "{target:?}");
        }
        let target = Target::from(("joe:secret@host", 80));
        assert!(target.port.is_err() && !format!("{target:?}").contains("secret"));
    }
}
