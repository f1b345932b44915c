//! The parts that both handshakes with a proxy share, CONNECT and SOCKS5: the destination, and a time limit.

use super::Proxy;
use crate::{
    connect::Target,
    error::{NoRuntime, ProxyError, ProxyErrorKind},
    sink::{ConnRef, TraceSink},
};
use http::Uri;
use std::{net::IpAddr, time::Duration};

/// The settings of a handshake with a proxy.
#[derive(Clone, Debug)]
pub(super) struct HandshakeConfig {
    pub(super) sink: TraceSink,
    /// Limits the time from the established connection to the proxy until there is one to the destination.
    pub(super) timeout: Option<Duration>,
}

/// A handshake with a proxy over a connection to it.
pub(super) struct Handshake<'a> {
    pub(super) proxy: &'a Proxy,
    pub(super) target: &'a ProxyTarget,
    /// `None` if the connection is not recorded.
    pub(super) conn: Option<&'a ConnRef>,
    pub(super) config: &'a HandshakeConfig,
}

impl Handshake<'_> {
    /// Runs the exchange of messages for no longer than the limit.
    pub(super) async fn with_timeout<F, T>(&self, exchange: F) -> Result<T, ProxyErrorKind>
    where
        F: Future<Output = Result<T, ProxyErrorKind>>,
    {
        match self.config.timeout {
            Some(limit) => {
                NoRuntime::check().map_err(ProxyErrorKind::NoRuntime)?;
                let result = tokio::time::timeout(limit, exchange).await;
                result.unwrap_or(Err(ProxyErrorKind::TimedOut(limit)))
            }
            None => exchange.await,
        }
    }

    pub(super) fn error(&self, kind: ProxyErrorKind) -> ProxyError {
        self.proxy.error(&self.target.text, kind)
    }
}

/// The destination that a proxy is asked to connect to.
pub(super) struct ProxyTarget {
    pub(super) host: Host,
    pub(super) port: u16,
    /// `host:port`, as the destination was given.
    pub(super) text: String,
}

/// The host of a destination. An address needs no lookup, neither here nor by the proxy.
pub(super) enum Host {
    Name(String),
    Address(IpAddr),
}

impl ProxyTarget {
    /// Reads the destination from a URI.
    ///
    /// # Errors
    ///
    /// The destination as text and the reason why it cannot be connected to.
    pub(super) fn of_uri(uri: &Uri) -> Result<Self, (String, &'static str)> {
        let target = Target::of_uri(uri);
        let text = String::from(target.to_text());
        match target.port {
            Ok(port) => {
                let host = target.host.parse().map_or(Host::Name(target.host), Host::Address);
                Ok(ProxyTarget { host, port, text })
            }
            Err(why) => Err((text, why)),
        }
    }
}
