//! Tracing of reqwest: observed clients, and requests that are sent through this crate's client.
#![cfg(all(feature = "reqwest", any(feature = "ring", feature = "aws-lc-rs")))]

mod clients;
mod dials;
mod failures;
mod links;
mod promises;
mod proxies;
mod redirects;
mod settings;
mod tiers;
mod tls;
mod unix;
