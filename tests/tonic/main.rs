//! gRPC calls through traced channels: their links, their statuses and ends, and that tracing changes nothing.
//!
//! The server says in each answer which port has asked; the trace must say the same, by links between records.
#![cfg(all(feature = "client", feature = "tonic", any(feature = "ring", feature = "aws-lc-rs")))]

#[path = "../../examples/greeter/mod.rs"]
mod greeter;

mod connect_timeout;
mod dials;
mod ends;
mod links;
mod servers;
mod status;
mod streams;
mod tls;
mod transparency;
mod transports;
mod unboxed;
