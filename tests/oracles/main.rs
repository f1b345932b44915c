//! Requests to servers, and beside witnesses, that other people wrote: nginx, dnsmasq, openssl, strace, curl.
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
