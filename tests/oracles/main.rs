//! Traces compared with the logs and measurements of other programs: nginx, dnsmasq, openssl, strace, curl.
#![cfg(all(feature = "client", any(feature = "ring", feature = "aws-lc-rs")))]

mod connections;
mod facts;
mod names;
mod phases;
mod requests;
mod site;
#[cfg(feature = "cli")]
mod syscalls;
mod tls;
