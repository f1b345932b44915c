//! What is kept of a TLS tunnel, and what writes it down.

pub(super) mod recorder;
