//! How the connections of a pool are made and kept.

use super::state::Limits;
use crate::{
    connect::TcpConnector,
    proxy::{ProxyConnector, ProxySelector},
    tls::TraceTls,
};
use std::time::Duration;

/// The connector of the preset: TLS with the server, through a proxy, which may be spoken to over TLS itself.
pub(in crate::client) type Connector = TraceTls<ProxyConnector<TraceTls<TcpConnector>>>;

/// How connections are made and kept.
pub(in crate::client) struct PoolConfig {
    pub(in crate::client) limits: Limits,
    pub(in crate::client) timeouts: Timeouts,
    /// HTTP/2 with prior knowledge.
    pub(in crate::client) http2_only: bool,
    pub(in crate::client) proxies: ProxySelector,
}

/// Limits on the time that an exchange waits for the server; `None` for no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::client) struct Timeouts {
    /// The time for the header of the response, after the whole request was sent.
    pub(in crate::client) response_header: Option<Duration>,
    /// The time for `100 Continue`, after which the body is sent anyway. With `None` it is sent at once.
    pub(in crate::client) expect_continue: Option<Duration>,
}
