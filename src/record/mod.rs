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
pub(crate) mod ops;
mod slice;
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
pub(crate) use ops::{
    Chain, Cursor, Delta, EncodedOps, OpError, RawOp, Segment, TickScale, TraceClock, kind,
};
pub use ops::{SocketOps, SocketOpsIter};
pub use socket::{SocketOp, SocketOpType, SocketTrace};
pub use timestamp::{ParseTimestampError, Timestamp};
pub use timings::Timings;
pub use tls::{PeerCert, TlsTunnelTrace};
pub use trace::{Dropped, NetTrace, Precise};

/// The JSON Schema (draft 2020-12) of a serialised [`NetTrace`].
///
/// It describes what this version writes, precise times included, and what the Go package writes. Reading is
/// more lenient: unknown fields are ignored, absent ones have their defaults, unknown names are kept.
pub const JSON_SCHEMA: &str = include_str!("schema.json");
