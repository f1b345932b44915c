//! gRPC calls through traced channels: links to connections, statuses, end reasons, and behaviour that tracing must not
//! change.
//!
//! The server returns the client's port in each response. The tests compare it with the port of the connection to which
//! the call is linked.
#![cfg(all(feature = "client", feature = "tonic", any(feature = "ring", feature = "aws-lc-rs")))]

mod connect_timeout;
mod dials;
mod ends;
// Of the example, which is published and so cannot take it from the support package.
#[path = "../../examples/greeter/mod.rs"]
mod greeter;
mod links;
mod servers;
mod status;
mod streams;
mod tls;
mod transparency;
mod transports;
mod unboxed;
