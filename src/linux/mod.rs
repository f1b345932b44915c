//! Probes: what the Linux kernel knows of a connection, beside what the program sees of it.
//!
//! They are given to the sink with [`TraceSinkBuilder::probe`](crate::TraceSinkBuilder::probe).

#[cfg(feature = "conntrack")]
mod conntrack;
#[cfg(feature = "tcp-info")]
mod icmp;
#[cfg(feature = "tcp-info")]
mod tcp_info;

#[cfg(feature = "_bench")]
pub(crate) use conntrack::bench;
#[cfg(feature = "conntrack")]
pub use conntrack::{ConntrackProbe, ConntrackProbeBuilder, ConntrackProblem};
#[cfg(feature = "tcp-info")]
pub use tcp_info::TcpInfoProbe;
