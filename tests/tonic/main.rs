//! gRPC calls through traced channels: links to connections, statuses, end reasons, and behaviour that tracing must not
//! change.
//!
//! The server returns the client's port in each response. The tests compare it with the port of the connection to which
//! the call is linked.
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
