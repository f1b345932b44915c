//! `TraceTlsLayer` over any connector: the records of handshakes that succeed and of those that fail.
#![cfg(all(feature = "tls", any(feature = "ring", feature = "aws-lc-rs")))]

mod clients;
mod configuration;
mod established;
mod failed;
mod key_log;
mod openssl;
mod transparency;
