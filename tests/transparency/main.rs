//! A traced client behaves as an untraced one: the same bytes on the wire, the same outcome for the caller.
//!
//! Each scenario runs with an untraced client and in every way of tracing it, against the same server. What the server
//! receives and what the caller gets must not differ.
#![cfg(all(feature = "client", feature = "wire", any(feature = "ring", feature = "aws-lc-rs")))]

mod clients;
mod errors;
mod expect;
mod extended_connect;
mod foreign;
mod from_the_wire;
mod http1;
mod http2;
mod io;
mod metadata;
mod pooling;
mod upgrade;
mod wrappers;
