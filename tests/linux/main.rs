//! What the Linux kernel knows of connections, in networks made for each test.
#![cfg(all(target_os = "linux", feature = "client", any(feature = "ring", feature = "aws-lc-rs")))]

#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "conntrack")]
mod conntrack;
