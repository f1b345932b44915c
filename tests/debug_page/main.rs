//! The debug page: what it shows, what it refuses, and that nothing that a peer sent does anything on it.

#![cfg(all(feature = "axum", feature = "client", feature = "debug-page", feature = "ring"))]

mod fixture;
mod headers;
mod hostile;
mod json;
mod load;
mod metrics;
mod mounted;
mod requests;
mod switches;
