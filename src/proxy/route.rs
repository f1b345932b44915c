//! How requests get to their destination: decided here, by connectors and by the preset alike.

use super::{Proxy, ProxySelector};
use crate::error::BoxError;
use http::Uri;

/// The way to a destination. Connections on equal routes lead to the same peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Route {
    /// Without a proxy.
    Direct,
    /// The proxy connects to the destination (CONNECT or SOCKS5) and passes bytes on.
    Tunnel(Proxy),
    /// The proxy is sent the requests themselves, each with its whole URL (RFC 9112 section 3.2.2).
    Forward(Proxy),
}

impl ProxySelector {
    /// Returns the route to a destination. `forwards` decides whether the proxy chosen is sent requests or asked for a
    /// tunnel.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`select`](Self::select).
    pub(crate) fn route(
        &self,
        destination: &Uri,
        forwards: impl FnOnce(&Proxy) -> bool,
    ) -> Result<Route, BoxError> {
        Ok(match self.select(destination)? {
            None => Route::Direct,
            Some(proxy) if forwards(&proxy) => Route::Forward(proxy),
            Some(proxy) => Route::Tunnel(proxy),
        })
    }
}
