//! The form in which a request goes out (RFC 9112 section 3.2), and what it must be like for that.

use super::pool::{Host, Outgoing, PoolConfig, PooledConn, host_field};
use crate::{
    error::{BoxError, InvalidRequest},
    proxy::Proxy,
};
use http::{
    HeaderValue, Method, Request, Uri, Version,
    header::{HOST, PROXY_AUTHORIZATION, UPGRADE},
    uri::{Authority, Parts, PathAndQuery, Scheme},
};

/// What connections are shared by.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) scheme: Scheme,
    /// The server's; the proxy's where that forwards requests, to whatever server.
    pub(super) authority: Authority,
    pub(super) route: Route,
}

/// How a request gets to its server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Route {
    Direct,
    /// The proxy becomes a tunnel, through which the server is spoken to.
    Tunnel(Proxy),
    /// The proxy is told of each request where that is to go.
    Forward(Proxy),
}

impl Route {
    pub(super) fn proxy(&self) -> Option<&Proxy> {
        match self {
            Route::Direct => None,
            Route::Tunnel(proxy) | Route::Forward(proxy) => Some(proxy),
        }
    }
}

impl Key {
    /// Of the connections that the request may go over.
    pub(super) fn of<B>(request: &mut Request<B>, config: &PoolConfig) -> Result<Self, BoxError> {
        let (scheme, authority) = server(request)?;
        let route = match config.proxies.select(request.uri())? {
            None => Route::Direct,
            Some(proxy) if is_forwarded(request, &proxy, config) => Route::Forward(proxy),
            Some(proxy) => Route::Tunnel(proxy),
        };
        Ok(match &route {
            Route::Forward(proxy) => {
                Key { scheme: Scheme::HTTP, authority: proxy.authority().clone(), route }
            }
            _ => Key { scheme, authority, route },
        })
    }
}

/// Whether the proxy is told of the request itself.
fn is_forwarded<B>(request: &Request<B>, proxy: &Proxy, config: &PoolConfig) -> bool {
    if request.method() == Method::CONNECT {
        // One of the caller's is what the proxy is to be told, whatever the port.
        return proxy.scheme().is_http();
    }
    // To a proxy `Upgrade` is about its own connection: another protocol needs a tunnel (RFC 6455 section 4.1).
    let upgrades = request.headers().contains_key(UPGRADE);
    proxy.forwards(request.uri()) && !config.http2_only && !upgrades
}

/// The server's scheme and authority.
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
            let server = (if is_https { Scheme::HTTPS } else { Scheme::HTTP }, authority.clone());
            let mut parts = Parts::default();
            (parts.scheme, parts.authority) = (Some(server.0.clone()), Some(server.1.clone()));
            parts.path_and_query = Some(PathAndQuery::from_static("/"));
            *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
            Ok(server)
        }
        _ => Err(InvalidRequest("its URL has no scheme and host")),
    }
}

/// The request as it was before [`apply`]: another connection may speak another version.
pub(super) fn restore(request: &mut Request<Outgoing>, host: &Host) {
    if let Route::Forward(_) = host.route {
        return; // it named its server all the time
    }
    let mut parts = host.uri.clone().into_parts();
    parts.path_and_query = request.uri().path_and_query().cloned().or(parts.path_and_query);
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
}

/// Over HTTP/1 the host is named in a field of its own, and the target is shorter than the URL.
pub(super) fn apply(request: &mut Request<Outgoing>, conn: &PooledConn) -> Result<(), InvalidRequest> {
    if conn.is_http2() {
        return Ok(());
    }
    if request.version() == Version::HTTP_2 {
        return Err(InvalidRequest("it is one of HTTP/2, and the connection speaks HTTP/1"));
    }
    match &conn.host.route {
        Route::Forward(proxy) => forwarded(request, proxy),
        _ => {
            let host = conn.host.header.as_ref().ok_or(UNNAMEABLE)?;
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
    }
}

const UNNAMEABLE: InvalidRequest = InvalidRequest("its host cannot be sent");

/// The proxy is told all of the URL, and shown the credentials for it.
fn forwarded(request: &mut Request<Outgoing>, proxy: &Proxy) -> Result<(), InvalidRequest> {
    if let (Some(scheme), Some(authority)) = (request.uri().scheme(), request.uri().authority()) {
        let host = HeaderValue::try_from(host_field(scheme, authority)).map_err(|_| UNNAMEABLE)?;
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
