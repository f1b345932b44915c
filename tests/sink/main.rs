//! What a sink promises: traces that do not disturb, bounds, a new start, an end, and secrets kept.
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
