//! Connections: their state ([`record`]), references to it ([`conn_ref`]), and what writes it ([`recorder`]).
//!
//! An attempt at a TCP connection is a connection that has not been established: `dial::attempt` begins it, and a
//! [`ConnRecorder`](recorder::ConnRecorder) takes over when the handshake is complete. What the kernel knows is written
//! by probes, through [`probe_api`].

pub(super) mod conn_ref;
pub(super) mod conntrack;
#[cfg(any(feature = "connect", feature = "tls"))]
pub(super) mod identity;
pub(super) mod op_log;
mod probe_api;
pub(super) mod probe_data;
pub(super) mod record;
pub(super) mod recorder;
