//! Probes: what the Linux kernel knows of a connection, beside what the program sees of it.
//!
//! They are given to the sink with [`TraceSinkBuilder::probe`](crate::TraceSinkBuilder::probe).

mod conntrack;

pub use conntrack::{ConntrackProbe, ConntrackProbeBuilder, ConntrackProblem};
