//! Requests that are read from the bytes of a connection.
//!
//! `tests/transparency` proves that reading changes nothing, and that the records are those that layers would have
//! made.
#![cfg(all(feature = "full", any(feature = "ring", feature = "aws-lc-rs")))]

mod arbitrary;
mod ends;
mod fixture;
mod http1;
mod http2;
mod layers;
mod server;
mod stopped;
mod tls;
mod tonic;
#[cfg(target_os = "linux")]
mod tshark;
