//! The guarantees of a sink: snapshots that do not disturb traffic, retention limits, `clear`, `close`, and redaction.
#![cfg(all(feature = "client", any(feature = "ring", feature = "aws-lc-rs")))]

mod clear;
mod close;
mod decoded;
mod identity;
mod isolation;
mod mock;
mod probes;
mod retention;
mod secrets;
mod server;
mod snapshot;
mod subscribers;
mod switched_off;
