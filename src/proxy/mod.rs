//! Ways through proxies, over any connector: HTTP (forwarded, or tunnelled with CONNECT), HTTPS and SOCKS5.
//!
//! [`ProxyLayer`] goes around a hyper connector, a [`Service`](tower_service::Service) of [`http::Uri`], and below
//! TLS with the server. What it makes of it, [`ProxyConnector`], is such a connector again. It asks the
//! [`ProxySelector`] which proxy there is for a destination, has the connector within connect to that, and then
//!
//! | proxy | destination `http` | any other |
//! |---|---|---|
//! | `http://` | leaves it to the client to send requests whole, as `Connected::is_proxied` tells it | CONNECT |
//! | `https://` | the same, inside TLS | CONNECT, inside TLS |
//! | `socks5://` | SOCKS5; the name is looked up here | the same |
//! | `socks5h://` | SOCKS5; the proxy looks the name up | the same |
//!
//! The connector within is asked for `https://proxy:port/` where the proxy speaks TLS, and for `http://host:port/` in
//! all other cases, also where there is no proxy for `https`: whatever speaks TLS below this layer speaks it with
//! proxies alone. So an HTTPS proxy takes two layers of TLS, one below and one above:
//!
#![cfg_attr(any(feature = "ring", feature = "aws-lc-rs"), doc = "```")]
#![cfg_attr(not(any(feature = "ring", feature = "aws-lc-rs")), doc = "```ignore")]
//! use hyper_util::{client::legacy::Client, rt::TokioExecutor};
//! use nettrace::{TraceSink, connect::TcpConnector, proxy::{Proxy, ProxyLayer}, tls::TraceTlsLayer};
//! use tower::ServiceBuilder;
//!
//! let sink = TraceSink::new();
//! let proxy: Proxy = "https://joe:secret@proxy.example:3129".parse()?;
//! let connector = ServiceBuilder::new()
//!     .layer(TraceTlsLayer::builder(&sink).alpn(["h2", "http/1.1"]).danger_accept_invalid_certs().build())
//!     .layer(ProxyLayer::new(&sink, proxy))
//!     .layer(TraceTlsLayer::builder(&sink).alpn(["http/1.1"]).danger_accept_invalid_certs().build())
//!     .service(TcpConnector::new(&sink));
//! let client: Client<_, http_body_util::Empty<bytes::Bytes>> =
//!     Client::builder(TokioExecutor::new()).build(connector);
//! # Ok::<(), nettrace::proxy::InvalidProxy>(())
//! ```
//!
//! Requests to `http` destinations carry the credentials for the proxy themselves, which a connector cannot add:
//! [`Proxy::authorization`] is what the client has to send as `Proxy-Authorization`.
//!
//! # What is recorded
//!
//! The dial is one to the proxy. CONNECT is an HTTP request of its own, with its status and, as the sink's policy has
//! it, its header fields; `triggeredBy` is the request that needed it. A SOCKS handshake is part of its connection
//! (`socks`). Both end exactly once, whatever becomes of them, and say why they failed. Requests over the connection
//! say `networkProxy`, and link both tunnels. Credentials are in no record: a proxy that was shown some is
//! `http://***@host:port`.

mod address;
mod connect_via;
mod future;
mod handshake;
mod http_connect;
mod layer;
mod selector;
mod service;
mod socks;
mod stream;

pub use self::{
    address::Proxy, future::ProxyConnectFuture, layer::ProxyLayer, selector::ProxySelector,
    service::ProxyConnector, stream::ProxyStream,
};
pub use crate::error::{InvalidProxy, ProxyError};
