//! Captures the packets of traced connections, and no others, as pcap and pcapng.
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
//! # What is kept
//!
//! A [`CaptureProbe`] captures on the interfaces that it is given, in either direction. It keeps the packets of its
//! sink's connections from the first SYN on, those exchanged with nameservers included, and ICMP errors that quote one
//! of them. Together with the `conntrack` probe it also keeps packets whose addresses NAT on this machine has changed.
//! The memory for packets is bounded, and packets that were lost are counted.
//!
//! For a connection that was accepted, the packets begin after `accept`: the handshake is not among them. Where both
//! ends are connections of the sink, the packets belong to the end that connected.
//!
//! With a foreign connector under `TraceConnectLayer`, packets are kept of the connections that it establishes and whose
//! addresses it reports (`HttpInfo`). Its failed attempts are not captured. The SYN is kept if connecting took no longer
//! than [`pending_timeout`](CaptureBuilder::pending_timeout).
//!
//! # Privileges
//!
//! Capturing needs a privilege, `CAP_NET_RAW` on Linux. An interface that cannot be opened is listed in
//! [`problems`](CaptureProbe::problems); the others work. Packets hold what was sent in the clear, headers and cookies
//! included, so files are readable by their owner alone.

mod annotations;
mod builder;
mod file;
mod filter;
mod flow;
mod interface;
mod packet;
mod packet_capture;
mod parse;
mod pcap_handle;
mod pcapng;
mod pending_packets;
mod probe;
mod problem;
mod session;
mod tcp_close;
mod worker;

pub use self::{
    builder::CaptureBuilder,
    file::CaptureFile,
    packet_capture::{CapturedPacket, PacketCapture},
    probe::CaptureProbe,
    problem::{InterfaceProblem, ProblemKind},
};
