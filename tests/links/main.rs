//! Requests are linked to the very connections that carried them.
//!
//! The servers say which port each request came from; the trace must say the same, by links between records.
#![cfg(all(feature = "client", any(feature = "ring", feature = "aws-lc-rs")))]

mod clients;
mod failed;
mod hops;
mod hyper_rustls;
mod pools;
mod ports;
mod race;
mod reuse;
mod sinks;
