//! The packets of traced connections, and of nobody else, as pcap and pcapng.
//!
//! A [`CaptureProbe`] captures on the interfaces that it is given, in either direction, and keeps what belongs to
//! connections of its sink: from the very first SYN on, the messages exchanged with nameservers, ICMP errors that
//! quote one of these packets, and, together with the `conntrack` probe, what NAT on this machine made of them. It is
//! bounded whatever passes beside; what was lost is counted.
//!
//! Of a connection that was accepted it has the packets from `accept` on, and not the handshake before it. Where both
//! ends are connections of the sink, the packets are those of the end that connected.
//!
//! It needs the privilege to capture (`CAP_NET_RAW` on Linux). An interface that cannot be opened is told of in
//! [`problems`](CaptureProbe::problems), and the rest works.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use nettrace::{TraceSink, capture::{CaptureFile, CaptureProbe}};
//!
//! let capture = CaptureProbe::builder(["eth0", "lo"]).icmp(true).start();
//! for problem in capture.problems() {
//!     eprintln!("{problem}");
//! }
//! let sink = TraceSink::builder().probe(capture).build();
//! // … give the sink to a client, make requests …
//! sink.refresh().await; // for the last packets of connections that were closed just now
//! let (trace, captures) = (sink.snapshot("with packets"), sink.captures());
//! CaptureFile::new(&captures).trace(&trace).write_to_file("requests.pcapng")?;
//! # Ok(()) }
//! ```
//!
//! Packets hold what was sent in the clear, headers and cookies too: files are readable by their owner alone.
//!
//! Of a foreign connector under `TraceConnectLayer` only connections are captured that it made and told the addresses of
//! (`HttpInfo`), not attempts that failed, and the SYN only if that took no longer than
//! [`pending_timeout`](CaptureBuilder::pending_timeout).

mod annotations;
mod builder;
mod file;
mod filter;
mod flow;
mod packet;
mod parse;
mod pcap_handle;
mod pcapng;
mod pending_packets;
mod probe;
mod problem;
mod worker;

pub use self::{
    builder::CaptureBuilder,
    file::CaptureFile,
    packet::{CapturedPacket, PacketCapture},
    probe::CaptureProbe,
    problem::{InterfaceProblem, ProblemKind},
};
