//! The address of a proxy: its protocol, host, port and credentials.

use crate::{
    error::{InvalidProxy, ProxyError, ProxyErrorKind},
    record::Text,
    sink::ProxyName,
    user_info::without_user_info,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri, uri::Authority};
use percent_encoding::percent_decode_str;
use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

/// A proxy and the credentials for it, parsed from a URL: `scheme://[user:password@]host[:port]`.
///
/// | scheme | protocol | default port |
/// |---|---|---|
/// | `http`, or none | HTTP/1.1 (RFC 9110 sections 7.6 and 9.3.6) | 80 |
/// | `https` | the same inside TLS | 443 |
/// | `socks5` | SOCKS5 (RFC 1928); names are looked up here | 1080 |
/// | `socks5h` | SOCKS5; the proxy looks names up | 1080 |
///
/// User name and password may be percent-encoded. They are sent to an HTTP proxy as RFC 7617 (Basic) says, and to a
/// SOCKS5 proxy as RFC 1929 says. Neither records nor the type's `Debug` and `Display` show them. Cheap to clone.
///
/// ```
/// use nettrace::proxy::Proxy;
///
/// let proxy: Proxy = "http://joe:secret@proxy.example:3128".parse()?;
/// assert_eq!(proxy.to_string(), "http://***@proxy.example:3128");
/// # Ok::<(), nettrace::proxy::InvalidProxy>(())
/// ```
#[derive(Clone)]
pub struct Proxy(Arc<Inner>);

struct Inner {
    scheme: ProxyScheme,
    authority: Authority,
    credentials: Credentials,
    /// The URI with which the inner connector is called to reach the proxy.
    uri: Uri,
    /// The URL with masked credentials, as records show it.
    name: ProxyName,
}

/// The protocol of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ProxyScheme {
    Http,
    Https,
    Socks5,
    Socks5h,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Credentials {
    None,
    /// The `Proxy-Authorization` for an HTTP proxy.
    Basic(HeaderValue),
    /// User name and password for a SOCKS5 proxy.
    Login {
        user: String,
        password: String,
    },
}

impl ProxyScheme {
    const ALL: [ProxyScheme; 4] =
        [ProxyScheme::Http, ProxyScheme::Https, ProxyScheme::Socks5, ProxyScheme::Socks5h];

    fn as_str(self) -> &'static str {
        match self {
            ProxyScheme::Http => "http",
            ProxyScheme::Https => "https",
            ProxyScheme::Socks5 => "socks5",
            ProxyScheme::Socks5h => "socks5h",
        }
    }

    fn port(self) -> u16 {
        match self {
            ProxyScheme::Http => 80,
            ProxyScheme::Https => 443,
            ProxyScheme::Socks5 | ProxyScheme::Socks5h => 1080,
        }
    }

    pub(crate) fn is_http(self) -> bool {
        matches!(self, ProxyScheme::Http | ProxyScheme::Https)
    }
}

impl Proxy {
    /// Returns the same proxy with these credentials.
    ///
    /// # Errors
    ///
    /// When the proxy speaks SOCKS5 and one of them is longer than 255 bytes (RFC 1929).
    pub fn credentials(&self, user: &str, password: &str) -> Result<Self, InvalidProxy> {
        let credentials = if self.0.scheme.is_http() {
            Credentials::Basic(basic(user, password))
        } else if user.len().max(password.len()) > usize::from(u8::MAX) {
            let why = "a user name or a password of more than 255 bytes is none of SOCKS5";
            return Err(InvalidProxy { text: self.to_string(), why });
        } else {
            Credentials::Login { user: user.into(), password: password.into() }
        };
        Ok(Proxy::new(self.0.scheme, self.0.authority.clone(), credentials))
    }

    /// Returns the `Proxy-Authorization` that a client must send with requests which an HTTP proxy forwards. CONNECT
    /// requests have it already.
    pub fn authorization(&self) -> Option<&HeaderValue> {
        match &self.0.credentials {
            Credentials::Basic(value) => Some(value),
            Credentials::None | Credentials::Login { .. } => None,
        }
    }

    /// Creates the proxy. `authority` must have a port.
    fn new(scheme: ProxyScheme, authority: Authority, credentials: Credentials) -> Self {
        let user = if credentials == Credentials::None { "" } else { "***@" };
        let name = ProxyName::new(Text::concat([scheme.as_str(), "://", user, authority.as_str()]));
        let tls =
            if scheme == ProxyScheme::Https { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP };
        let mut parts = http::uri::Parts::default();
        (parts.scheme, parts.authority) = (Some(tls), Some(authority.clone()));
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        let uri = Uri::from_parts(parts).unwrap_or_default();
        Proxy(Arc::new(Inner { scheme, authority, credentials, uri, name }))
    }

    pub(crate) fn scheme(&self) -> ProxyScheme {
        self.0.scheme
    }

    /// Returns `host:port`.
    pub(crate) fn authority(&self) -> &Authority {
        &self.0.authority
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.0.uri
    }

    pub(super) fn name(&self) -> &ProxyName {
        &self.0.name
    }

    /// Returns the user name and the password for a SOCKS5 proxy.
    pub(super) fn login(&self) -> Option<(&str, &str)> {
        match &self.0.credentials {
            Credentials::Login { user, password } => Some((user, password)),
            Credentials::None | Credentials::Basic(_) => None,
        }
    }

    /// Returns `true` if requests to `uri` are sent to the proxy, which forwards them.
    pub(crate) fn forwards(&self, uri: &Uri) -> bool {
        self.0.scheme.is_http() && uri.scheme() == Some(&http::uri::Scheme::HTTP)
    }

    pub(super) fn error(&self, target: &str, kind: ProxyErrorKind) -> ProxyError {
        ProxyError { kind, proxy: self.to_string(), target: target.into() }
    }
}

impl FromStr for Proxy {
    type Err = InvalidProxy;

    fn from_str(text: &str) -> Result<Self, InvalidProxy> {
        let wrong = |why| InvalidProxy { text: without_user_info(text), why };
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let scheme = ProxyScheme::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(scheme));
        let scheme = scheme.ok_or_else(|| wrong("its scheme is not http, https, socks5 or socks5h"))?;
        let (user_info, address) = match rest.rsplit_once('@') {
            Some((user_info, address)) => (Some(user_info), address),
            None => (None, rest),
        };
        let address = address.strip_suffix('/').unwrap_or(address);
        let authority: Authority = address.parse().map_err(|_| wrong("write [scheme://]host[:port]"))?;
        if authority.host().trim_matches(['[', ']']).is_empty() {
            return Err(wrong("it names no host"));
        }
        let port = match (authority.port(), address.rsplit_once(authority.host())) {
            (Some(_), _) => authority.port_u16().ok_or_else(|| wrong("its port is no number up to 65535"))?,
            (None, Some((_, ""))) => scheme.port(),
            (None, _) => return Err(wrong("its port is no number up to 65535")),
        };
        let with_port = format!("{}:{port}", authority.host().to_ascii_lowercase());
        let authority = with_port.parse().map_err(|_| wrong("write [scheme://]host[:port]"))?;
        let proxy = Proxy::new(scheme, authority, Credentials::None);
        match user_info {
            None => Ok(proxy),
            Some(user_info) => {
                let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
                let decode = |text| percent_decode_str(text).decode_utf8_lossy();
                proxy.credentials(&decode(user), &decode(password))
            }
        }
    }
}

impl TryFrom<&str> for Proxy {
    type Error = InvalidProxy;

    fn try_from(text: &str) -> Result<Self, InvalidProxy> {
        text.parse()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name.as_str())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// Equal if the URL and the credentials are.
impl PartialEq for Proxy {
    fn eq(&self, other: &Self) -> bool {
        fn parts(proxy: &Proxy) -> (ProxyScheme, &Authority, &Credentials) {
            (proxy.0.scheme, &proxy.0.authority, &proxy.0.credentials)
        }
        Arc::ptr_eq(&self.0, &other.0) || parts(self) == parts(other)
    }
}

impl Eq for Proxy {}

impl Hash for Proxy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0.scheme, &self.0.authority).hash(state);
    }
}

/// Returns the value of a `Proxy-Authorization` header field (RFC 7617).
fn basic(user: &str, password: &str) -> HeaderValue {
    let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let mut value = HeaderValue::try_from(text).expect("base64 text is a valid header value");
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(text: &str) -> Proxy {
        text.parse().unwrap()
    }

    #[test]
    fn valid_addresses_are_parsed() {
        for (text, name, uri) in [
            ("proxy.test", "http://proxy.test:80", "http://proxy.test:80/"),
            ("127.0.0.1:3128", "http://127.0.0.1:3128", "http://127.0.0.1:3128/"),
            ("HTTP://Proxy.test:1/", "http://proxy.test:1", "http://proxy.test:1/"),
            ("https://proxy.test", "https://proxy.test:443", "https://proxy.test:443/"),
            ("socks5://[::1]", "socks5://[::1]:1080", "http://[::1]:1080/"),
            ("socks5h://a:9", "socks5h://a:9", "http://a:9/"),
        ] {
            assert_eq!(
                (proxy(text).to_string().as_str(), proxy(text).uri().to_string().as_str()),
                (name, uri)
            );
        }
    }

    #[test]
    fn invalid_addresses_are_rejected() {
        for text in [
            "",
            "http://",
            "ftp://proxy.test",
            "socks4://a",
            "http://a:b",
            "http://a:70000",
            "http://a/b",
            "a b",
        ] {
            assert!(text.parse::<Proxy>().is_err(), "{text}");
        }
    }

    #[test]
    fn credentials_are_read_and_not_shown() {
        let http = proxy("http://joe:p%40ss:word@proxy.test:3128");
        assert_eq!(http.authorization().unwrap(), "Basic am9lOnBAc3M6d29yZA==");
        let bare = proxy("https://joe@proxy.test");
        assert_eq!(bare.authorization().unwrap(), "Basic am9lOg==");
        let unescaped = proxy("http://joe:p@ss@proxy.test");
        assert_eq!(unescaped.authorization().unwrap(), "Basic am9lOnBAc3M=");
        let socks = proxy("socks5://joe:secret@proxy.test");
        assert!(socks.authorization().is_none());
        assert_eq!(socks.login(), Some(("joe", "secret")));
        for proxy in [http, bare, unescaped, socks] {
            let shown = format!("{proxy} {proxy:?}");
            assert!(shown.contains("://***@proxy.test:") && !shown.contains("joe"), "{shown}");
        }
        let long = "x".repeat(256);
        assert!(format!("socks5://{long}:y@a").parse::<Proxy>().is_err());
        let error = "http://joe:secret@proxy.test:x".parse::<Proxy>().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }

    #[test]
    fn proxies_with_different_credentials_are_not_equal() {
        let plain = proxy("http://proxy.test:1");
        assert_eq!(plain, proxy("proxy.test:1"));
        assert_ne!(plain, proxy("https://proxy.test:1"));
        assert_ne!(plain, plain.credentials("joe", "").unwrap());
        assert_ne!(plain.credentials("joe", "a").unwrap(), plain.credentials("joe", "b").unwrap());
    }
}
