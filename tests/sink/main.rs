//! The guarantees of a sink: snapshots that do not disturb traffic, retention limits, `clear`, `close`, and redaction.
#![cfg(all(feature = "client", any(feature = "ring", feature = "aws-lc-rs")))]

mod clear;
mod close;
mod decoded;
mod dump;
mod identity;
mod isolation;
mod kept;
mod mock;
mod probes;
mod retention;
mod secrets;
mod server;
mod slices;
mod snapshot;
mod status;
mod stream;
mod subscribers;
mod switched_off;
