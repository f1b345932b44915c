//! Protocols other than HTTP over traced connections.
#![cfg(all(feature = "client", feature = "server", any(feature = "ring", feature = "aws-lc-rs")))]

mod postgres;
mod websocket;
