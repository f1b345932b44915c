//! What is kept of a connection, and what writes it down.

pub(super) mod conn_ref;
pub(super) mod conntrack;
#[cfg(any(feature = "connect", feature = "tls"))]
pub(super) mod identity;
pub(super) mod op_log;
mod probe_api;
pub(super) mod probe_data;
pub(super) mod record;
pub(super) mod recorder;
