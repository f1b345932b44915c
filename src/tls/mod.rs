//! TLS over any connector: each handshake, and the connection that it protects, is recorded as a tunnel.
//!
#![cfg_attr(any(feature = "ring", feature = "aws-lc-rs"), doc = "```")]
#![cfg_attr(not(any(feature = "ring", feature = "aws-lc-rs")), doc = "```ignore")]
//! use hyper_util::client::legacy::{Client, connect::HttpConnector};
//! use hyper_util::rt::TokioExecutor;
//! use nettrace::{TraceSink, tls::TraceTlsLayer};
//! use tower::Layer;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let address = listener.local_addr()?;
//! # tokio::spawn(async move {
//! #     let (mut stream, _) = listener.accept().await?;
//! #     tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4096]).await
//! # });
//! let sink = TraceSink::new();
//! let mut http = HttpConnector::new();
//! http.enforce_http(false);
//! let tls = TraceTlsLayer::builder(&sink).alpn(["h2", "http/1.1"]).danger_accept_invalid_certs().build();
//! let client = Client::builder(TokioExecutor::new()).build(tls.layer(http));
//! # let client: Client<_, http_body_util::Empty<bytes::Bytes>> = client;
//!
//! let uri = format!("https://{address}/").parse()?;
//! assert!(client.get(uri).await.is_err(), "this server reads the ClientHello and hangs up");
//!
//! let trace = sink.snapshot("a handshake");
//! assert_eq!(trace.tls_tunnels[0].failure, Some(nettrace::Failure::EofError));
//! # Ok(())
//! # }
//! ```
//!
//! # Which connectors it wraps
//!
//! [`TraceTlsLayer`] wraps any hyper connector: a [`Service`](tower_service::Service) of [`http::Uri`] whose response
//! implements [`hyper::rt::Read`], [`hyper::rt::Write`] and hyper-util's `Connection`. The result, [`TraceTls`], is
//! such a connector itself, so the layer can be applied twice for TLS inside TLS. URIs with the scheme `https` get TLS;
//! all others pass through unchanged, unless [`always`](TraceTlsLayerBuilder::always) is set.
//!
//! The bytes on the wire, the errors and the metadata of connections are those of tokio-rustls. ALPN offers what the
//! user chooses; hyper's client is told if `h2` was negotiated.
//!
//! # What is recorded
//!
//! A failed handshake shows the same as a successful one, as far as it became known: the server's name, certificates,
//! version, cipher suite, key exchange group and alert. TLS 1.3 encrypts the protocol that ALPN chose, so it is not
//! known of a handshake that failed.

#[cfg(feature = "_bench")]
pub(crate) mod bench;
mod builder;
mod certificate;
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
mod config_parts;
mod config_source;
mod distinguished_name;
#[cfg(feature = "reqwest")]
pub(crate) mod foreign_handshakes;
mod future;
mod handshake;
mod handshake_inspector;
mod handshake_observation;
mod handshake_recorder;
mod handshake_tap;
mod iana_names;
mod key_log;
mod layer;
mod layer_config;
#[cfg(feature = "relay")]
mod passing_handshake;
#[cfg(feature = "relay")]
mod passing_stream;
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
mod roots;
#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
mod self_signed;
mod server_hello;
mod server_name;
mod service;
mod stream;
mod verifier;

#[cfg(feature = "relay")]
pub(crate) use self::passing_stream::PassingTls;
// Used by the accepting side.
#[cfg(feature = "server")]
pub(crate) use self::{
    certificate::ChainCache,
    handshake_observation::{on_peer_certificates, scope},
    handshake_recorder::HandshakeRecorder,
    handshake_tap::HandshakeTap,
};
pub use crate::error::TlsError;
pub use builder::TraceTlsLayerBuilder;
#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
pub use config_source::ConfigParts;
pub use config_source::Prebuilt;
pub use future::TraceTlsFuture;
pub use key_log::KeyLog;
pub use layer::TraceTlsLayer;
pub use service::TraceTls;
pub use stream::{MaybeTlsStream, TlsStream};
pub use verifier::TraceVerifier;

#[cfg(any(feature = "ring", feature = "aws-lc-rs"))]
pub use self::{
    config_parts::{ConfigParts, TlsVersion},
    roots::{ClientCertificate, Roots},
};
