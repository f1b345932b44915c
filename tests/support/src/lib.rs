//! Helpers that the integration tests share: networks and network faults in namespaces, independent servers and
//! clients, and assertions that hold for every trace.
//!
//! No process and no network outlives the test that started it, even if the test is killed. A killed test leaves only
//! files in the temporary directory.

pub mod alloc;
pub mod background;
#[cfg(feature = "check-records")]
pub mod check;
pub mod collector;
pub mod curl;
pub mod delegate;
pub mod dns;
pub mod dnsdist;
pub mod dnsmasq;
pub mod encrypted_dns;
pub mod endless;
pub mod errors;
pub mod history;
pub mod lab;
pub mod nginx;
pub mod openssl;
pub mod pipe;
pub mod pki;
pub mod ports;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod process;
pub mod proxies;
pub mod raw;
pub mod require;
pub mod slow;
pub mod strace;
mod sys;
pub mod tshark;
pub mod unbound;
pub mod wait;
pub mod web;
