//! Those who are handed records as they end.

use crate::record::{
    DialTrace, DnsQueryTrace, HttpReqTrace, TcpConnTrace, TlsTunnelTrace, TraceId, UdpConnTrace,
};

/// Is handed each record once, when it has ended, on the thread that ended it and under no lock of the sink's.
///
/// It runs on the path of the traffic and should be quick: hand over to a channel what takes long. A panic is
/// contained and reported through `tracing` (target `nettrace`).
pub trait Subscriber: Send + Sync + 'static {
    /// A record has ended.
    fn finished(&self, record: &FinishedRecord);
}

impl<F: Fn(&FinishedRecord) + Send + Sync + 'static> Subscriber for F {
    fn finished(&self, record: &FinishedRecord) {
        self(record)
    }
}

/// A record that has ended, with the identifiers and times that it has in a trace: nothing changes it any more,
/// but for the time at which a request lets go of its dial (`ctxCloseAt`), which may come later.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FinishedRecord {
    /// A dial, with or without a connection.
    Dial(DialTrace),
    /// A TCP connection was closed, or an attempt failed.
    TcpConn(TcpConnTrace),
    /// A UDP socket was closed.
    UdpConn(UdpConnTrace),
    /// The exchange with a nameserver over one connection is over.
    DnsQuery(DnsQueryTrace),
    /// A TLS handshake failed, or a tunnel was closed.
    TlsTunnel(TlsTunnelTrace),
    /// A request's response was read to its end, or it failed or was dropped.
    HttpRequest(HttpReqTrace),
}

impl FinishedRecord {
    /// The identifier of the record.
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
