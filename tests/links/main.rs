//! Requests are linked to the connections that carried them.
//!
//! The servers report which port each request came from. The links between records must lead to a connection with that
//! port.
#![cfg(all(feature = "client", any(feature = "ring", feature = "aws-lc-rs")))]

mod clients;
mod failed;
mod hops;
mod hyper_rustls;
mod pools;
mod ports;
mod race;
mod reports;
mod reuse;
mod sinks;
mod telemetry;
