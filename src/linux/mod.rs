//! Probes that add what the Linux kernel knows of each connection.
//!
//! | you want to know | take |
//! |---|---|
//! | round-trip times, retransmissions, windows, who refused an attempt | `TcpInfoProbe` (feature `tcp-info`) |
//! | what NAT made of the addresses, packets and bytes on the wire, marks | `ConntrackProbe` (feature `conntrack`) |
//!
//! `TcpInfoProbe` needs no privilege and takes less than a microsecond a reading; `ConntrackProbe` needs
//! `CAP_NET_ADMIN` and has a thread of its own. Both can be given to the same sink:
//!
#![cfg_attr(all(feature = "conntrack", feature = "tcp-info"), doc = "```")]
#![cfg_attr(not(all(feature = "conntrack", feature = "tcp-info")), doc = "```ignore")]
//! use nettrace::{TraceSink, linux::{ConntrackProbe, TcpInfoProbe}};
//!
//! let sink = TraceSink::builder().probe(TcpInfoProbe::new()).probe(ConntrackProbe::new()).build();
//! ```

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
