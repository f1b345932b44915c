//! gRPC calls through traced channels: their links, their statuses and ends, and that tracing changes nothing.
//!
//! The server puts the client's port into each answer; the links of the trace must lead to the connection with that
//! port.
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
