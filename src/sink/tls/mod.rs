//! TLS tunnels: their state ([`record`], [`peer_chain`]) and what writes it ([`recorder`]).

pub(super) mod peer_chain;
pub(super) mod record;
#[cfg(feature = "tls")]
pub(super) mod recorder;
