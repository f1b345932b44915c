//! The request target (RFC 9112 section 3.2): the part of its URL that a request names, and the header fields that say
//! the rest.
//!
//! Which form is right depends on the connection. HTTP/2 takes the whole URL. Over HTTP/1 a server is told the path, a
//! proxy that forwards is told the whole URL, and CONNECT names host and port.

use crate::{
    error::{BoxError, InvalidRequest},
    proxy::{Proxy, ProxySelector, Route},
};
use http::{
    HeaderValue, Method, Request, Uri, Version,
    header::{HOST, PROXY_AUTHORIZATION, UPGRADE},
    uri::{Authority, Parts, PathAndQuery, Scheme},
};

/// The properties that requests must have in common to share a connection.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct PoolKey {
    pub(super) scheme: Scheme,
    /// The server's. The proxy's if that forwards, as it takes requests to any server.
    pub(super) authority: Authority,
    pub(super) route: Route,
}

impl PoolKey {
    /// Returns the key of the connections that the request may use. A CONNECT request without a scheme is given one.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest`] if the client cannot send such a request, or what the selector of proxies fails with.
    pub(super) fn of<B>(
        request: &mut Request<B>,
        proxies: &ProxySelector,
        http2_only: bool,
    ) -> Result<Self, BoxError> {
        let (scheme, authority) = server(request)?;
        let route = proxies.route(request.uri(), |proxy| is_forwarded(request, proxy, http2_only))?;
        Ok(match &route {
            Route::Forward(proxy) => {
                PoolKey { scheme: Scheme::HTTP, authority: proxy.authority().clone(), route }
            }
            Route::Direct | Route::Tunnel(_) => PoolKey { scheme, authority, route },
        })
    }

    /// Returns the URL that connectors are asked for.
    pub(super) fn uri(&self) -> Uri {
        uri_of(self.scheme.clone(), self.authority.clone())
    }

    /// Returns the `Host` field of requests to the server (RFC 9110 section 7.2); `None` if its name cannot be one.
    pub(super) fn host_field(&self) -> Option<HeaderValue> {
        host_field(&self.scheme, &self.authority)
    }
}

/// Returns `true` if the proxy is sent the request itself instead of being asked for a tunnel.
fn is_forwarded<B>(request: &Request<B>, proxy: &Proxy, http2_only: bool) -> bool {
    if request.method() == Method::CONNECT {
        // The caller asks for a tunnel: the proxy is sent that request as it is, whatever the port.
        return proxy.scheme().is_http();
    }
    // `Upgrade` concerns the connection to the proxy, so another protocol needs a tunnel (RFC 6455 section 4.1).
    let upgrades = request.headers().contains_key(UPGRADE);
    proxy.forwards(request.uri()) && !http2_only && !upgrades
}

/// Returns the scheme and authority of the server.
fn server<B>(request: &mut Request<B>) -> Result<(Scheme, Authority), InvalidRequest> {
    let connects = request.method() == Method::CONNECT;
    match request.version() {
        Version::HTTP_10 if connects => return Err(InvalidRequest("HTTP/1.0 has no CONNECT")),
        Version::HTTP_10 | Version::HTTP_11 | Version::HTTP_2 => {}
        _ => return Err(InvalidRequest("its version of HTTP is not spoken here")),
    }
    let uri = request.uri();
    match (uri.scheme(), uri.authority()) {
        (Some(scheme), Some(authority)) => Ok((scheme.clone(), authority.clone())),
        (None, Some(authority)) if connects => {
            let is_https = authority.port_u16() == Some(443);
            let scheme = if is_https { Scheme::HTTPS } else { Scheme::HTTP };
            let authority = authority.clone();
            *request.uri_mut() = uri_of(scheme.clone(), authority.clone());
            Ok((scheme, authority))
        }
        _ => Err(InvalidRequest("its URL has no scheme and host")),
    }
}

/// Gives the request the form that its connection needs. `host_field` is that of [`PoolKey::host_field`].
///
/// # Errors
///
/// [`InvalidRequest`] if the connection speaks HTTP/1 and the request cannot be sent over that.
pub(super) fn apply<B>(
    request: &mut Request<B>,
    route: &Route,
    host_field: Option<&HeaderValue>,
    is_http2: bool,
) -> Result<(), InvalidRequest> {
    if is_http2 {
        return Ok(());
    }
    if request.version() == Version::HTTP_2 {
        return Err(InvalidRequest("it is one of HTTP/2, and the connection speaks HTTP/1"));
    }
    if let Route::Forward(proxy) = route {
        return apply_forwarded(request, proxy);
    }
    let host = host_field.ok_or(NO_HOST_FIELD)?;
    request.headers_mut().entry(HOST).or_insert_with(|| host.clone());
    let mut parts = Parts::default();
    if request.method() == Method::CONNECT {
        parts.authority = request.uri().authority().cloned();
    } else {
        parts.path_and_query = request.uri().path_and_query().cloned();
    }
    // Without a path it is the root.
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    Ok(())
}

const NO_HOST_FIELD: InvalidRequest = InvalidRequest("its host cannot be sent");

/// The proxy is told the whole URL, and shown its credentials.
fn apply_forwarded<B>(request: &mut Request<B>, proxy: &Proxy) -> Result<(), InvalidRequest> {
    if let (Some(scheme), Some(authority)) = (request.uri().scheme(), request.uri().authority()) {
        let host = host_field(scheme, authority).ok_or(NO_HOST_FIELD)?;
        request.headers_mut().entry(HOST).or_insert(host);
    }
    if let Some(credentials) = proxy.authorization() {
        request.headers_mut().entry(PROXY_AUTHORIZATION).or_insert_with(|| credentials.clone());
    }
    if request.method() == Method::CONNECT
        && let Some(authority) = request.uri().authority().cloned()
    {
        let mut parts = Parts::default();
        parts.authority = Some(authority);
        *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    }
    Ok(())
}

/// Undoes [`apply`], for another connection that may speak another version of HTTP. `server` is [`PoolKey::uri`].
pub(super) fn restore<B>(request: &mut Request<B>, route: &Route, server: &Uri) {
    if let Route::Forward(_) = route {
        return; // it still has its whole URL
    }
    let mut parts = server.clone().into_parts();
    parts.path_and_query = request.uri().path_and_query().cloned().or(parts.path_and_query);
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
}

fn uri_of(scheme: Scheme, authority: Authority) -> Uri {
    let mut parts = Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority);
    parts.path_and_query = Some(PathAndQuery::from_static("/"));
    Uri::from_parts(parts).unwrap_or_default()
}

/// The host, and its port unless that is the scheme's default.
fn host_field(scheme: &Scheme, authority: &Authority) -> Option<HeaderValue> {
    let default_port = match scheme.as_str() {
        "https" | "wss" => 443,
        _ => 80,
    };
    let host = authority.host();
    match authority.port_u16().filter(|port| *port != default_port) {
        Some(port) => HeaderValue::try_from(format!("{host}:{port}")).ok(),
        None => HeaderValue::from_str(host).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, uri: &str) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri.parse().unwrap();
        request
    }

    fn key(request: &mut Request<()>, proxy: Option<&str>) -> PoolKey {
        let proxies = ProxySelector::from(proxy.map(|proxy| proxy.parse::<Proxy>().unwrap()));
        PoolKey::of(request, &proxies, false).unwrap()
    }

    #[test]
    fn http1_targets_have_the_form_of_their_route() {
        let proxy = Some("http://joe:secret@proxy.test:3128");
        for (method, uri, proxy, target, host) in [
            (Method::GET, "http://a.test:80/x?y", None, "/x?y", "a.test"),
            (Method::GET, "https://a.test:8443", None, "/", "a.test:8443"),
            (Method::CONNECT, "a.test:443", None, "a.test:443", "a.test"),
            (Method::GET, "http://a.test/x", proxy, "http://a.test/x", "a.test"),
            (Method::GET, "https://a.test/x", proxy, "/x", "a.test"),
            (Method::CONNECT, "a.test:443", proxy, "a.test:443", "a.test"),
        ] {
            let mut request = request(method, uri);
            let key = key(&mut request, proxy);
            let whole = request.uri().clone();
            apply(&mut request, &key.route, key.host_field().as_ref(), false).unwrap();
            assert_eq!(
                (request.uri().to_string().as_str(), &request.headers()[HOST]),
                (target, &host.parse().unwrap())
            );
            let shows_credentials = request.headers().contains_key(PROXY_AUTHORIZATION);
            assert_eq!(shows_credentials, matches!(key.route, Route::Forward(_)), "{uri}");
            if request.method() != Method::CONNECT {
                restore(&mut request, &key.route, &key.uri());
                assert_eq!(request.uri(), &whole);
            }
        }
    }

    #[test]
    fn requests_through_a_forwarding_proxy_share_a_key() {
        let keys = |proxy| {
            ["http://a.test/", "http://b.test/"].map(|uri| key(&mut request(Method::GET, uri), proxy))
        };
        let [a, b] = keys(Some("http://proxy.test"));
        assert!(a == b);
        let [a, b] = keys(Some("socks5h://proxy.test"));
        assert!(a != b);
    }

    #[test]
    fn an_upgrade_through_a_proxy_needs_a_tunnel() {
        let mut request = request(Method::GET, "http://a.test/");
        request.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        assert!(matches!(key(&mut request, Some("http://proxy.test")).route, Route::Tunnel(_)));
    }
}
