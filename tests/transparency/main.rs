//! A traced client behaves as the untraced one: the same bytes on the wire, the same outcome for the caller.
//!
//! Each scenario is run by an untraced client and by every way of tracing it, against the same server; what the
//! server saw and what the caller got must not differ.
#![cfg(all(feature = "client", any(feature = "ring", feature = "aws-lc-rs")))]

mod clients;
mod errors;
mod expect;
mod extended_connect;
mod foreign;
mod http1;
mod http2;
mod io;
mod metadata;
mod pooling;
mod upgrade;
mod wrappers;
