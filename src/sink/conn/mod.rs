//! Connections: their state ([`record`]), which begins in [`new_record`], references to it ([`conn_ref`]), and what writes
//! it ([`recorder`], [`op_writer`]).
//!
//! An attempt at a TCP connection is a connection that has not been established: `dial::attempt` begins it, and a
//! [`ConnRecorder`](recorder::ConnRecorder) takes over when the handshake is complete. What the kernel knows is written
//! by probes, through [`probe_api`]. What was read of the
//! HTTP is in `wire_facts`, written through `wire_api`.

pub(super) mod conn_ref;
pub(super) mod conntrack;
#[cfg(any(feature = "connect", feature = "request"))]
mod first_byte;
#[cfg(any(feature = "connect", feature = "tls"))]
pub(super) mod identity;
#[cfg(all(feature = "timestamping", target_os = "linux"))]
pub(super) mod kernel_times;
#[cfg(all(feature = "timestamping", target_os = "linux"))]
pub(super) mod kernel_times_recorder;
#[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
mod lent_socket;
#[cfg(feature = "_record_conns")]
pub(super) mod new_record;
pub(super) mod op_log;
#[cfg(any(loom, feature = "connect"))]
pub(super) mod op_writer;
mod probe_api;
pub(super) mod probe_data;
pub(super) mod record;
#[cfg(feature = "connect")]
pub(super) mod recorder;
#[cfg(feature = "wire")]
mod wire_api;
#[cfg(feature = "wire")]
pub(super) mod wire_facts;
