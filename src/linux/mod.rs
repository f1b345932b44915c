//! Probes that ask the Linux kernel. They are given to the sink with
//! [`TraceSinkBuilder::probe`](crate::TraceSinkBuilder::probe).

mod icmp;
mod tcp_info;

pub use tcp_info::TcpInfoProbe;
