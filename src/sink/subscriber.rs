//! [`Subscriber`]: something that is handed each record when it has ended.

use crate::record::{
    DialTrace, DnsQueryTrace, HttpReqTrace, TcpConnTrace, TlsTunnelTrace, TraceId, UdpConnTrace,
};

/// Is handed each record once, when it has ended, on the thread that ended it and under no lock of the sink.
///
/// It runs on the path of the traffic and should be quick: hand what takes long to a channel. A panic is contained and
/// reported through `tracing` (target `nettrace`).
pub trait Subscriber: Send + Sync + 'static {
    /// Called with a record that has ended.
    fn finished(&self, record: &FinishedRecord);
}

impl<F: Fn(&FinishedRecord) + Send + Sync + 'static> Subscriber for F {
    fn finished(&self, record: &FinishedRecord) {
        self(record)
    }
}

/// A record that has ended, with the identifiers and times that it has in a trace.
///
/// Nothing changes it any more, except for the time at which its request releases a dial (`ctxCloseAt`), which may come
/// later.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FinishedRecord {
    /// A dial, with or without a connection.
    Dial(DialTrace),
    /// A TCP connection that was closed, or an attempt that failed.
    TcpConn(TcpConnTrace),
    /// A UDP socket that was closed.
    UdpConn(UdpConnTrace),
    /// A finished exchange with a nameserver over one connection.
    DnsQuery(DnsQueryTrace),
    /// A TLS handshake that failed, or a tunnel that was closed.
    TlsTunnel(TlsTunnelTrace),
    /// A request whose response was read to its end, or that failed or was dropped.
    HttpRequest(HttpReqTrace),
}

impl FinishedRecord {
    /// Returns the identifier of the record.
    pub fn trace_id(&self) -> &TraceId {
        match self {
            FinishedRecord::Dial(record) => &record.trace_id,
            FinishedRecord::TcpConn(record) => &record.trace_id,
            FinishedRecord::UdpConn(record) => &record.trace_id,
            FinishedRecord::DnsQuery(record) => &record.trace_id,
            FinishedRecord::TlsTunnel(record) => &record.trace_id,
            FinishedRecord::HttpRequest(record) => &record.trace_id,
        }
    }
}
