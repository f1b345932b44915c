//! Tunnels through proxies: the name of the proxy, and the handshake with a SOCKS proxy.
//!
//! Everything else that a proxy is involved in has a record of its own: the dial to it, the TLS tunnels, and the
//! CONNECT request.

pub(super) mod record;
#[cfg(feature = "proxy")]
pub(super) mod recorder;
