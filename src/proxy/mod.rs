//! Proxies for any connector: HTTP (forwarded, or tunnelled with CONNECT), HTTPS and SOCKS5.
//!
//! ```
//! use hyper_util::{client::legacy::Client, rt::TokioExecutor};
//! use nettrace::{TraceSink, connect::TcpConnector, proxy::{Proxy, ProxyLayer}};
//! use tower::Layer;
//!
//! let sink = TraceSink::new();
//! let proxy: Proxy = "http://proxy.example:3128".parse()?;
//! let connector = ProxyLayer::new(&sink, proxy).layer(TcpConnector::new(&sink));
//! let client: Client<_, http_body_util::Empty<bytes::Bytes>> =
//!     Client::builder(TokioExecutor::new()).build(connector);
//! # Ok::<(), nettrace::proxy::InvalidProxy>(())
//! ```
//!
//! # What it does with a destination
//!
//! [`ProxyLayer`] wraps a hyper connector, a [`Service`](tower_service::Service) of [`http::Uri`], below the TLS layer
//! for servers. The result, [`ProxyConnector`], is such a connector itself. It asks the [`ProxySelector`] which proxy
//! to use for a destination, connects to it with the inner connector, and then:
//!
//! | proxy | destination `http` | any other |
//! |---|---|---|
//! | `http://` | the client sends whole requests, as `Connected::is_proxied` tells it | CONNECT |
//! | `https://` | the same, inside TLS | CONNECT, inside TLS |
//! | `socks5://` | SOCKS5; the name is looked up here | the same |
//! | `socks5h://` | SOCKS5; the proxy looks the name up | the same |
//!
//! For requests to `http` destinations, a connector cannot add the credentials for the proxy: the client must send
//! [`Proxy::authorization`] as `Proxy-Authorization`.
//!
//! # HTTPS proxies
//!
//! The inner connector is called with `https://proxy:port/` if the proxy speaks TLS, and with `http://host:port/` in
//! all other cases, also for an `https` destination without a proxy. A TLS layer below this one is therefore only used
//! for proxies. An HTTPS proxy takes two TLS layers, one below and one above:
//!
#![cfg_attr(any(feature = "ring", feature = "aws-lc-rs"), doc = "```")]
#![cfg_attr(not(any(feature = "ring", feature = "aws-lc-rs")), doc = "```ignore")]
//! use nettrace::{TraceSink, connect::TcpConnector, proxy::{Proxy, ProxyLayer}, tls::TraceTlsLayer};
//! use tower::ServiceBuilder;
//!
//! let sink = TraceSink::new();
//! let proxy: Proxy = "https://joe:secret@proxy.example:3129".parse()?;
//! let connector = ServiceBuilder::new()
//!     .layer(TraceTlsLayer::builder(&sink).alpn(["h2", "http/1.1"]).build())
//!     .layer(ProxyLayer::new(&sink, proxy))
//!     .layer(TraceTlsLayer::builder(&sink).alpn(["http/1.1"]).build())
//!     .service(TcpConnector::new(&sink));
//! # Ok::<(), nettrace::proxy::InvalidProxy>(())
//! ```
//!
//! # What is recorded
//!
//! The dial is one to the proxy. CONNECT is an HTTP request of its own, with its status and, as the sink is configured,
//! its header fields; `triggeredBy` is the request that needed it. A SOCKS5 handshake is part of its connection
//! (`socks`). Both end exactly once and say why they failed. Requests over the connection have `networkProxy` and link
//! both tunnels. Credentials are never recorded: a proxy with credentials is shown as `http://***@host:port`.

mod address;
mod connect_via;
mod future;
mod handshake;
mod http_connect;
mod layer;
mod route;
mod selector;
mod service;
mod socks;
mod stream;

#[cfg(feature = "client")]
pub(crate) use self::route::Route;
pub use self::{
    address::Proxy, future::ProxyConnectFuture, layer::ProxyLayer, selector::ProxySelector,
    service::ProxyConnector, stream::ProxyStream,
};
pub use crate::error::{InvalidProxy, ProxyError};
