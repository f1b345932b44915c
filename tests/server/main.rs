//! The accepting side: records of connections, handshakes and requests, and unchanged behaviour of the server.
#![cfg(all(feature = "server", feature = "client", any(feature = "ring", feature = "aws-lc-rs")))]

#[cfg(feature = "axum")]
mod axum;
mod calls;
mod conns;
mod ends;
mod failed;
mod requests;
mod servers;
mod tls;
#[cfg(feature = "tonic-server")]
mod tonic;
mod transparency;
