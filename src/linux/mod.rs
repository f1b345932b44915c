//! Linux only: probes that add to each connection what the kernel knows about it.
//!
#![cfg_attr(all(feature = "conntrack", feature = "tcp-info"), doc = "```")]
#![cfg_attr(not(all(feature = "conntrack", feature = "tcp-info")), doc = "```ignore")]
//! use nettrace::{TraceSink, linux::{ConntrackProbe, TcpInfoProbe}};
//!
//! let conntrack = ConntrackProbe::new();
//! let sink = TraceSink::builder().probe(TcpInfoProbe::new()).probe(conntrack.clone()).build();
//! // … make requests …
//! for problem in conntrack.problems() {
//!     eprintln!("{problem}"); // such as a missing capability, and how to get it
//! }
//! ```
//!
//! # Which probe to use
//!
//! | question | probe | needs |
//! |---|---|---|
//! | Is the path slow or lossy? Round-trip times, retransmissions, windows and rates, as `ss -ti` shows them | [`TcpInfoProbe`] (feature `tcp-info`) | nothing: leave it on |
//! | Which router or host refused the attempt? | [`TcpInfoProbe`] | Linux 5.9 |
//! | Where does a request wait: in this process, on the network or at the server? Times of departure, acknowledgement and arrival | [`TimestampingProbe`] (feature `timestamping`) | Linux 5.1; costs system calls on the connections that it samples |
//! | What did NAT or the firewall of this host do? Addresses after translation, state, mark, zone, counters | [`ConntrackProbe`] (feature `conntrack`) | `CAP_NET_ADMIN`, and a rule that makes the kernel track connections |
//!
//! `capture::CaptureProbe` (feature `capture`) keeps the packets themselves. A probe never delays a request or makes
//! one fail.
//!
#![cfg_attr(
    not(feature = "conntrack"),
    doc = "[`ConntrackProbe`]: https://docs.rs/nettrace/latest/nettrace/linux/struct.ConntrackProbe.html"
)]
#![cfg_attr(
    not(feature = "tcp-info"),
    doc = "[`TcpInfoProbe`]: https://docs.rs/nettrace/latest/nettrace/linux/struct.TcpInfoProbe.html"
)]
#![cfg_attr(
    not(feature = "timestamping"),
    doc = "[`TimestampingProbe`]: https://docs.rs/nettrace/latest/nettrace/linux/struct.TimestampingProbe.html"
)]

#[cfg(feature = "conntrack")]
mod conntrack;
#[cfg(feature = "tcp-info")]
mod icmp;
#[cfg(feature = "tcp-info")]
mod tcp_info;
#[cfg(feature = "timestamping")]
mod timestamping;

#[cfg(feature = "_bench")]
pub(crate) use conntrack::bench;
#[cfg(feature = "conntrack")]
pub use conntrack::{ConntrackProbe, ConntrackProbeBuilder, ConntrackProblem};
#[cfg(feature = "tcp-info")]
pub use tcp_info::TcpInfoProbe;
#[cfg(feature = "timestamping")]
pub use timestamping::TimestampingProbe;
