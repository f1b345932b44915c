//! What is kept of a connection, and what writes it down.

pub(super) mod conntrack;
#[cfg(any(feature = "connect", feature = "tls"))]
pub(super) mod identity;
pub(super) mod op_log;
pub(super) mod probe_data;
pub(super) mod record;
pub(super) mod recorder;
