//! What the integration tests stand on: hosts, links and faults made from network namespaces, and
//! servers and clients that this project did not write, as oracles.
//!
//! A test file takes it with `mod support;`. No process and no network outlives the test, even one
//! that is killed; of that one some files stay in the temporary directory.

// Every test binary compiles all of this and uses a part of it.
#![allow(dead_code, unused_imports, unused_macros)]

pub mod background;
pub mod check;
pub mod collector;
pub mod curl;
pub mod dns;
pub mod dnsmasq;
pub mod history;
pub mod lab;

pub mod nginx;
pub mod openssl;
#[cfg(all(feature = "tls", any(feature = "ring", feature = "aws-lc-rs")))]
pub mod pki;
#[cfg(feature = "resolve")]
pub mod postgres;
pub mod process;
pub mod proxies;
pub mod raw;
pub mod require;
pub mod slow;
pub mod strace;
mod sys;
pub mod web;
