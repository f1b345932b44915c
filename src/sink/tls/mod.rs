//! What is kept of a TLS tunnel, and what writes it down.

pub(super) mod peer_chain;
pub(super) mod record;
pub(super) mod recorder;
