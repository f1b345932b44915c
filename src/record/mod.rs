//! What a trace is: plain data, and its JSON.

mod conn;
mod conntrack;
mod dial;
mod dns;
mod end;
mod failure;
mod http;
mod id;
mod list;
mod names;
mod ops;
mod socket;
mod timestamp;
mod timings;
mod tls;
mod trace;

pub use conn::{AddrTuple, TcpConnTrace, UdpConnTrace};
pub use conntrack::{ConntrackEntry, ConntrackStatus, TcpState};
pub use dial::{DialTrace, ResolverDialTrace};
pub use dns::{DnsAnswer, DnsQueryMsg, DnsQueryTrace, DnsQuestion, DnsRCode, DnsReplyMsg, DnsResType};
pub use end::EndReason;
pub use failure::{Failure, UnknownFailure};
pub use http::{Attempt, HttpHeaderField, HttpHeaders, HttpReqTrace, Informational};
pub use id::TraceId;
pub use list::{Record, TraceList};
pub use ops::SocketOps;
pub use socket::{SocketOp, SocketOpType, SocketTrace};
pub use timestamp::{ParseTimestampError, Timestamp};
pub use timings::Timings;
pub use tls::{PeerCert, TlsTunnelTrace};
pub use trace::{Dropped, NetTrace, Precise};
