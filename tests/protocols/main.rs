//! Protocols other than HTTP over the connector and its streams.
#![cfg(all(feature = "client", feature = "server", any(feature = "ring", feature = "aws-lc-rs")))]

#[path = "../support/delegate.rs"]
mod delegate;
#[path = "../support/mod.rs"]
mod support;

mod postgres;
mod websocket;
