//! Failures of requests that the preset `Client` makes: the records of each, their failure codes, ends and links.

#![cfg(all(feature = "client", any(feature = "ring", feature = "aws-lc-rs")))]

mod closed;
mod connect;
mod dns;
mod dropped;
mod fixture;
mod h2;
mod invalid;
mod layers;
mod redirect;
mod response;
mod stale;
mod timeout;
mod tls;
mod upload;
