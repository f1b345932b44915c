//! The data model of a trace: plain structs and their JSON.
//!
//! A [`NetTrace`] holds lists of records, and records refer to one another by [`TraceId`]:
//!
//! ```text
//! HttpReqTrace ──prevHop──▶ HttpReqTrace            the request that redirected here
//!   │  ▲────triggeredBy───── HttpReqTrace            the CONNECT to a proxy that was made for it, or a request that
//!   │  │                                             was made while it was answered
//!   │  ├─tlsTunnel, proxyTLSTunnel─▶ TlsTunnelTrace ─┐
//!   │  └─tcpConn, attempts[].tcpConn──▶ TcpConnTrace ◀┘tcpConn
//!   │                                     │ fromDial
//!   └◀────────────triggeredBy──────── DialTrace       name or address → established connection
//!                                         ├─establishedConn──▶ TcpConnTrace   the attempt that won
//!                                         └─resolverDials[].establishedConn─▶ UdpConnTrace or TcpConnTrace
//!                                                                                ▲ connection
//!                                                        DnsQueryTrace ──────────┘ (and fromDial)
//! ```
//!
//! A dial has one TCP connection for each address that it tried. For each nameserver that it asked, it has a UDP or TCP
//! connection (`fromResolver`) with one [`DnsQueryTrace`]. A kept-alive connection serves many requests, and only one
//! of them triggered its dial.
//!
//! [`TraceList::get`] finds a record by its identifier in constant time:
//!
//! ```
//! # let json = "{}";
//! let trace: nettrace::NetTrace = serde_json::from_str(json)?;
//! for request in &trace.http_requests {
//!     let Some(conn) = trace.tcp_conns.get(&request.tcp_conn) else { continue };
//!     println!("{} went to {}: {}", request.req_url, conn.addr_tuple.dst_ip, request.timings(&trace));
//! }
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # JSON
//!
//! The names, the nesting and the enum strings are those of the Go package `nettrace` (`libs/nettrace` of lf-edge EVE).
//! Additional fields are left out when they are empty. Each package reads what the other writes. [`JSON_SCHEMA`]
//! describes the format.
//! Reading is lenient: unknown fields are ignored, absent fields get their defaults, and `null` is an empty list.
//! Unknown enum strings and failure codes are kept and written back.
//!
//! This module does no I/O, reads no clock and does not depend on the rest of the crate: the sink converts its own
//! state into these types when a snapshot is taken.

mod addr_tuple;
mod boxed_or_empty;
mod conn;
mod conntrack;
mod dial;
mod dns;
mod end_reason;
mod failure;
mod filter;
mod grpc;
mod histogram;
mod host_traffic;
mod http;
mod icmp;
mod kernel_times;
pub(crate) mod limits;
mod net_trace;
mod open_enum;
pub(crate) mod ops;
mod phase_times;
mod phases;
mod pool;
#[cfg(feature = "_store")]
mod relocation;
mod serde_helpers;
mod slice;
mod socket;
mod socket_op;
mod tcp_info;
mod text;
mod timestamp;
mod timings;
mod tls;
mod trace_id;
mod trace_list;
mod wait_breakdown;
mod wire;

pub use addr_tuple::AddrTuple;
pub use boxed_or_empty::{BoxedOrEmpty, Empty};
pub use conn::{SocksTrace, TcpConnTrace, UdpConnTrace};
pub use conntrack::{ConntrackEntry, ConntrackStatus, TcpState};
pub(crate) use dial::is_host_name;
pub use dial::{DialTrace, ResolverDialTrace};
pub use dns::{
    DnsAnswer, DnsQueryMsg, DnsQueryTrace, DnsQuestion, DnsRCode, DnsReplyMsg, DnsResType, DnsSvcb,
};
pub use end_reason::EndReason;
pub use failure::{Failure, UnknownFailure};
pub use filter::RequestFilter;
pub(crate) use grpc::grpc_status_name;
pub use histogram::{Bucket, Histogram};
pub use host_traffic::{HostTraffic, PhaseHistograms};
pub use http::{Attempt, HttpHeaderField, HttpHeaders, HttpReqTrace, Informational};
pub use icmp::IcmpError;
pub use kernel_times::{KernelTimes, ReadTimes, WriteTimes};
pub use limits::TruncatedFields;
pub use net_trace::{Dropped, NetTrace, Precise};
#[cfg(any(loom, feature = "connect"))]
pub(crate) use ops::{DeltaCodec, OpError, OpKind, RawOp, WriteCursor};
pub(crate) use ops::{EncodedOps, Segment, SegmentChain, TickScale, TraceClock};
pub use ops::{SocketOps, SocketOpsIter};
pub(crate) use phase_times::{AttemptTimes, DialTimes, Phase, RequestTimes};
pub use pool::{NotReused, PoolCheckout, PoolConnection, PoolWait};
pub use socket::SocketTrace;
pub use socket_op::{SocketOp, SocketOpType};
pub use tcp_info::{CongestionState, TcpInfo, TcpInfoEvent, TcpInfoState};
pub(crate) use text::AsciiText;
pub use text::Text;
#[cfg(feature = "json")]
pub(crate) use timestamp::with_precise_times;
pub use timestamp::{ParseTimestampError, Timestamp};
pub use timings::Timings;
pub use tls::{PeerCert, TlsTunnelTrace};
pub use trace_id::TraceId;
pub use trace_list::{Record, TraceList};
#[cfg(feature = "explain")]
pub(crate) use wait_breakdown::RequestStamps;
pub use wait_breakdown::WaitBreakdown;
pub use wire::{GoAway, Http2Settings, Http2Trace, WireStop, WireTrace};

/// The JSON Schema (draft 2020-12) of a serialized [`NetTrace`].
///
/// It describes what this version and the Go package write, precise times included. It is stricter than
/// deserialization: fields and enum strings that it does not know are errors.
pub const JSON_SCHEMA: &str = include_str!("schema.json");

#[cfg(test)]
mod tests {
    use super::*;

    /// A large snapshot spends most of its time on memory for the records.
    #[test]
    fn records_are_small() {
        let sizes = [
            size_of::<HttpReqTrace>(),
            size_of::<DialTrace>(),
            size_of::<TcpConnTrace>(),
            size_of::<UdpConnTrace>(),
            size_of::<DnsQueryTrace>(),
            size_of::<TlsTunnelTrace>(),
        ];
        let most = [456, 256, 376, 296, 184, 280];
        assert!(sizes.iter().zip(most).all(|(size, most)| *size <= most), "{sizes:?}, at most {most:?}");
    }
}
