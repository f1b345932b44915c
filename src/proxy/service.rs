use super::{ProxyConnectFuture, ProxyLayer, ProxyStream, connect_via::connect_via, route::Route};
use crate::{error::BoxError, resolve::StubResolver};
use http::{
    Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper::rt::{Read, Write};
use hyper_util::client::legacy::connect::{Connection, dns::Name};
use std::{
    mem,
    net::SocketAddr,
    task::{Context, Poll},
};
use tower_service::Service;

/// A connector that uses proxies; see the [module](super).
///
/// Errors of the inner connector are passed on unchanged. A proxy that does not connect to the destination is a
/// [`ProxyError`](super::ProxyError).
#[derive(Clone, Debug)]
pub struct ProxyConnector<C, R = StubResolver> {
    inner: C,
    layer: ProxyLayer<R>,
}

impl<C, R> ProxyConnector<C, R> {
    pub(super) fn new(inner: C, layer: ProxyLayer<R>) -> Self {
        ProxyConnector { inner, layer }
    }

    /// Returns a reference to the inner connector.
    pub fn get_ref(&self) -> &C {
        &self.inner
    }

    /// Returns a mutable reference to the inner connector.
    pub fn get_mut(&mut self) -> &mut C {
        &mut self.inner
    }

    /// Returns the inner connector.
    pub fn into_inner(self) -> C {
        self.inner
    }
}

impl<C, R> ProxyConnector<C, R>
where
    C: Service<Uri> + Clone + Send + 'static,
    C::Response: Read + Write + Connection + Unpin + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
    R: Service<Name> + Clone + Send + 'static,
    R::Response: Iterator<Item = SocketAddr> + Send,
    R::Error: Into<BoxError>,
    R::Future: Send,
{
    /// Connects to the destination on a route that is decided already.
    pub(crate) fn connect_by(
        &mut self,
        route: Route,
        destination: Uri,
    ) -> ProxyConnectFuture<C::Future, C::Response> {
        let (proxy, forwards) = match route {
            Route::Direct => {
                return ProxyConnectFuture::direct(self.inner.call(as_plain_http(destination)));
            }
            Route::Tunnel(proxy) => (proxy, false),
            Route::Forward(proxy) => (proxy, true),
        };
        // `poll_ready` was called on this one, so the clone takes its place.
        let next = self.inner.clone();
        let inner = mem::replace(&mut self.inner, next);
        let ProxyLayer { resolver, handshake, .. } = self.layer.clone();
        let connected = connect_via(inner, proxy, forwards, destination, resolver, handshake);
        ProxyConnectFuture::via_proxy(Box::pin(connected))
    }
}

impl<C, R> Service<Uri> for ProxyConnector<C, R>
where
    C: Service<Uri> + Clone + Send + 'static,
    C::Response: Read + Write + Connection + Unpin + Send + 'static,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
    R: Service<Name> + Clone + Send + 'static,
    R::Response: Iterator<Item = SocketAddr> + Send,
    R::Error: Into<BoxError>,
    R::Future: Send,
{
    type Response = ProxyStream<C::Response>;
    type Error = BoxError;
    type Future = ProxyConnectFuture<C::Future, C::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let ProxyLayer { selector, tunnels_http, .. } = &self.layer;
        match selector.route(&uri, |proxy| proxy.forwards(&uri) && !tunnels_http) {
            Ok(route) => self.connect_by(route, uri),
            Err(error) => ProxyConnectFuture::failed(error),
        }
    }
}

/// Changes `https` to `http` and keeps the port: a TLS layer below this one is for proxies only.
fn as_plain_http(uri: Uri) -> Uri {
    if uri.scheme() != Some(&Scheme::HTTPS) {
        return uri;
    }
    let mut parts = uri.into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = parts.authority.map(|authority| match authority.port() {
        Some(_) => authority,
        // There may be a colon without a port (RFC 3986 section 3.2.3).
        None => Authority::try_from(format!("{}:443", authority.host())).unwrap_or(authority),
    });
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    Uri::from_parts(parts).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_urls_become_plain_http_with_an_explicit_port() {
        for (uri, expected) in [
            ("https://a.test/", "http://a.test:443/"),
            ("https://[::1]/x", "http://[::1]:443/x"),
            ("https://a.test:/", "http://a.test:443/"),
            ("https://a.test:8443/", "http://a.test:8443/"),
            ("http://a.test/", "http://a.test/"),
            ("postgres://a.test/", "postgres://a.test/"),
        ] {
            assert_eq!(as_plain_http(uri.parse().unwrap()), expected);
        }
    }
}
