//! What a request meets when things go wrong: each failure with its records, code, end and links.

#![cfg(feature = "client")]

mod connect;
mod dns;
mod response;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod tls;
