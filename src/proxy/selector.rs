//! Chooses the proxy for a destination.

use super::Proxy;
use crate::error::{BoxError, InvalidProxy};
use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use std::{env, fmt, net::IpAddr, sync::Arc};

/// Chooses which proxy is used for a destination, if any. Cheap to clone.
///
/// ```
/// use nettrace::proxy::{Proxy, ProxySelector};
///
/// let proxy: Proxy = "socks5h://127.0.0.1:1080".parse()?;
/// let always = ProxySelector::from(proxy.clone());
/// let outside = ProxySelector::from(proxy.clone()).no_proxy("localhost, internal.example, 10.0.0.0/8");
/// let by_host = ProxySelector::new(move |uri| {
///     Ok(uri.host().is_some_and(|host| host.ends_with(".onion")).then(|| proxy.clone()))
/// });
/// # let uri = http::Uri::from_static("http://db.internal.example/");
/// assert!(always.select(&uri)?.is_some());
/// assert!(outside.select(&uri)?.is_none());
/// assert!(by_host.select(&uri)?.is_none());
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Clone, Default)]
pub struct ProxySelector(Choice);

#[derive(Clone, Default)]
enum Choice {
    #[default]
    None,
    Fixed(Proxy),
    Except(Proxy, Arc<Exceptions>),
    Environment(Arc<Environment>),
    Custom(Arc<SelectFn>),
}

type SelectFn = dyn Fn(&Uri) -> Result<Option<Proxy>, BoxError> + Send + Sync;

/// The proxies that environment variables name.
struct Environment {
    http: Option<Result<Proxy, InvalidProxy>>,
    https: Option<Result<Proxy, InvalidProxy>>,
    exceptions: Exceptions,
}

/// Destinations that no proxy is used for.
struct Exceptions {
    /// The list has `*`.
    all: bool,
    /// hyper-util's matcher with a placeholder as its proxy: used only to find out whether the list matches.
    others: Matcher,
}

impl ProxySelector {
    /// Creates a selector that never uses a proxy.
    pub const fn none() -> Self {
        ProxySelector(Choice::None)
    }

    /// Creates a selector that calls `select` for every destination. A client calls it for every request and every
    /// redirect. An error of `select` fails the connection or the request.
    pub fn new(select: impl Fn(&Uri) -> Result<Option<Proxy>, BoxError> + Send + Sync + 'static) -> Self {
        ProxySelector(Choice::Custom(Arc::new(select)))
    }

    /// Reads the environment: `HTTP_PROXY` for `http` destinations, `HTTPS_PROXY` for `https`, `ALL_PROXY` for either
    /// if it has none of its own, and `NO_PROXY` as in [`no_proxy`](Self::no_proxy). Lower-case names work too.
    ///
    /// Other schemes use no proxy. As in Go, `localhost` and loopback addresses are always connected to directly. In a
    /// CGI program (`REQUEST_METHOD` is set) nothing is read, because there a client can set `HTTP_PROXY` with a
    /// header.
    pub fn from_env() -> Self {
        Self::from_variables(|name| Some(env::var_os(name)?.to_string_lossy().into_owned()))
    }

    fn from_variables(read: impl Fn(&str) -> Option<String>) -> Self {
        let value = |name: &str| {
            let names = [name, &name.to_lowercase()];
            names.into_iter().filter_map(&read).find(|value| !value.is_empty())
        };
        let proxy = |name| value(name).or_else(|| value("ALL_PROXY")).map(|text| text.parse());
        let [http, https] = ["HTTP_PROXY", "HTTPS_PROXY"].map(proxy);
        if (http.is_none() && https.is_none()) || read("REQUEST_METHOD").is_some() {
            return Self::none();
        }
        let exceptions = Exceptions::new(&value("NO_PROXY").unwrap_or_default());
        ProxySelector(Choice::Environment(Arc::new(Environment { http, https, exceptions })))
    }

    /// Sets the destinations that are connected to directly, separated by commas: hosts (with their subdomains), IP
    /// addresses, networks such as `10.0.0.0/8`, or `*` for all.
    ///
    /// The list replaces an earlier one. It applies only to a selector of a single proxy; on others this has no effect.
    pub fn no_proxy(self, list: &str) -> Self {
        match self.0 {
            Choice::Fixed(proxy) | Choice::Except(proxy, _) => {
                ProxySelector(Choice::Except(proxy, Arc::new(Exceptions::new(list))))
            }
            other => ProxySelector(other),
        }
    }

    /// Returns the proxy for a destination; `None` if it is connected to directly.
    ///
    /// # Errors
    ///
    /// [`InvalidProxy`] when an environment variable is not a valid proxy, or the error of the function given to
    /// [`new`](Self::new).
    pub fn select(&self, uri: &Uri) -> Result<Option<Proxy>, BoxError> {
        match &self.0 {
            Choice::None => Ok(None),
            Choice::Fixed(proxy) => Ok(Some(proxy.clone())),
            Choice::Except(proxy, exceptions) => Ok((!exceptions.contain(uri)).then(|| proxy.clone())),
            Choice::Environment(environment) => Ok(environment.select(uri)?),
            Choice::Custom(ask) => ask(uri),
        }
    }
}

impl Environment {
    fn select(&self, uri: &Uri) -> Result<Option<Proxy>, InvalidProxy> {
        let proxy = match uri.scheme_str() {
            Some("http") => &self.http,
            Some("https") => &self.https,
            _ => &None,
        };
        let applies = || !uri.host().is_none_or(is_local) && !self.exceptions.contain(uri);
        proxy.clone().filter(|_| applies()).transpose()
    }
}

impl Exceptions {
    fn new(list: &str) -> Self {
        // The matcher takes `*` for a name, so that addresses would not match it.
        let all = list.split(',').any(|entry| entry.trim() == "*");
        Exceptions { all, others: Matcher::builder().all("http://proxy.invalid").no(list).build() }
    }

    fn contain(&self, uri: &Uri) -> bool {
        self.all || self.others.intercept(&as_http(uri)).is_none()
    }
}

fn is_local(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    bare.eq_ignore_ascii_case("localhost") || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// Changes the scheme to `http`, since the matcher knows only `http` and `https`.
fn as_http(uri: &Uri) -> Uri {
    let mut parts = uri.clone().into_parts();
    if parts.authority.is_some() {
        parts.scheme = Some(http::uri::Scheme::HTTP);
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    }
    Uri::from_parts(parts).unwrap_or_default()
}

impl From<Proxy> for ProxySelector {
    fn from(proxy: Proxy) -> Self {
        ProxySelector(Choice::Fixed(proxy))
    }
}

impl From<Option<Proxy>> for ProxySelector {
    fn from(proxy: Option<Proxy>) -> Self {
        proxy.map_or(ProxySelector::none(), ProxySelector::from)
    }
}

impl fmt::Debug for ProxySelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Choice::None => f.write_str("ProxySelector(none)"),
            Choice::Fixed(proxy) | Choice::Except(proxy, _) => write!(f, "ProxySelector({proxy})"),
            Choice::Environment(environment) => {
                let Environment { http, https, .. } = &**environment;
                f.debug_struct("ProxySelector").field("http", http).field("https", https).finish()
            }
            Choice::Custom(_) => f.write_str("ProxySelector(..)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(selector: &ProxySelector, uri: &str) -> Option<String> {
        selector.select(&uri.parse().unwrap()).unwrap().map(|proxy| proxy.to_string())
    }

    fn environment(variables: &[(&str, &str)]) -> ProxySelector {
        ProxySelector::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into())
        })
    }

    #[test]
    fn no_proxy_excludes_hosts_and_networks() {
        let proxy: Proxy = "http://p.test:1".parse().unwrap();
        let selector = ProxySelector::from(proxy).no_proxy("inside.test, 10.0.0.0/8,::1");
        for uri in
            ["http://inside.test/", "https://a.inside.test:1/", "http://10.1.2.3/", "postgres://[::1]:5432"]
        {
            assert_eq!(chosen(&selector, uri), None, "{uri}");
        }
        for uri in ["http://outside.test/", "https://notinside.test/", "postgres://11.1.2.3:5432"] {
            assert_eq!(chosen(&selector, uri).as_deref(), Some("http://p.test:1"), "{uri}");
        }
        let without = selector.no_proxy("a.test, *");
        for uri in ["http://outside.test/", "https://11.1.2.3/", "postgres://[2001:db8::1]:5432"] {
            assert_eq!(chosen(&without, uri), None, "{uri}");
        }
        assert_eq!(chosen(&ProxySelector::none().no_proxy("a"), "http://outside.test/"), None);
    }

    #[test]
    fn environment_variables_select_the_proxy() {
        let selector = environment(&[
            ("http_proxy", "http://joe:secret@h.test:1"),
            ("HTTPS_PROXY", ""),
            ("ALL_PROXY", "socks5h://a:b@s.test"),
            ("NO_PROXY", "no.test"),
        ]);
        assert_eq!(chosen(&selector, "http://x.test/").as_deref(), Some("http://***@h.test:1"));
        assert_eq!(chosen(&selector, "https://x.test/").as_deref(), Some("socks5h://***@s.test:1080"));
        for uri in
            ["http://no.test/", "https://localhost:1/", "http://127.0.0.1/", "https://[::1]/", "ws://x.test"]
        {
            assert_eq!(chosen(&selector, uri), None, "{uri}");
        }
        assert!(!format!("{selector:?}").contains("secret"));
    }

    #[test]
    fn without_usable_variables_there_is_no_proxy() {
        for variables in [
            &[][..],
            &[("HTTP_PROXY", "")],
            &[("NO_PROXY", "a.test")],
            &[("HTTP_PROXY", "a.test"), ("REQUEST_METHOD", "GET")],
            &[("HTTP_PROXY", "a.test"), ("NO_PROXY", "*")],
        ] {
            for uri in ["http://x.test/", "http://192.0.2.1/", "https://x.test/"] {
                assert_eq!(chosen(&environment(variables), uri), None, "{uri}");
            }
        }
    }

    /// An invalid proxy is an error, never a reason to connect directly.
    #[test]
    fn invalid_proxies_are_errors_and_not_bypassed() {
        for value in
            ["socks4://s.test", "ftp://joe:secret@s.test", "http://joe:secret@s.test:x", "s.test\u{fffd}"]
        {
            let selector = environment(&[("ALL_PROXY", value)]);
            let error = selector.select(&Uri::from_static("http://x.test/")).unwrap_err();
            assert!(error.is::<InvalidProxy>(), "{error}");
            assert!(!format!("{error} {error:?} {selector:?}").contains("secret"), "{error}");
        }
    }

    /// Passwords with characters that a URL would have to escape are read as in `Proxy::from_str`.
    #[test]
    fn unescaped_passwords_in_variables_are_read() {
        for password in ["p@ss", "pa^ss", "pa#ss", "pa/ss", "12/ss"] {
            let value = format!("http://joe:{password}@s.test:1");
            let selector = environment(&[("HTTPS_PROXY", &value)]);
            let proxy = selector.select(&Uri::from_static("https://x.test/")).unwrap();
            assert_eq!(proxy, Some(value.parse().unwrap()));
            assert_eq!(format!("{selector:?}").matches("ss").count(), 0, "{selector:?}");
        }
    }
}
