//! Protocols other than HTTP over the connector and its streams.
#![cfg(all(feature = "client", feature = "server", any(feature = "ring", feature = "aws-lc-rs")))]

mod postgres;
mod websocket;
