//! [`Subscriber`]: a callback for records that have ended; [`FinishedRecord`] and [`RecordKind`], its arguments.

use super::finished_request::FinishedRequest;
use crate::record::{
    DialTrace, DnsQueryTrace, EndReason, HttpReqTrace, TcpConnTrace, TlsTunnelTrace, TraceId, UdpConnTrace,
};

/// A callback that receives each record once, when the record ends.
///
/// Runs on the thread that ended the record, with no lock of the sink held. Not called for records that end after the
/// sink was closed.
///
/// It runs on the path of the traffic and should be quick: hand what takes long to a channel. A panic is contained and
/// reported through `tracing` (target `nettrace`).
pub trait Subscriber: Send + Sync + 'static {
    /// Called with a record that has ended.
    fn finished(&self, record: &FinishedRecord);

    /// Receives a request that has ended. Calls [`finished`](Self::finished) by default.
    ///
    /// `request` tells what `record`, a [`FinishedRecord::HttpRequest`], does not: how the time was spent, the records that
    /// the request refers to, and why it failed.
    fn finished_request(&self, record: &FinishedRecord, request: &FinishedRequest<'_>) {
        let _ = request;
        self.finished(record);
    }

    /// Returns `true` if the subscriber uses records of this kind that ended for this reason. By default it uses all.
    ///
    /// Called as a record ends, possibly more than once. A record that no subscriber uses is not put together, which
    /// saves most of what a subscriber costs. If another subscriber uses it, [`finished`](Self::finished) is called
    /// nevertheless. A panic is taken for `false`.
    fn is_interested(&self, kind: RecordKind, reason: &EndReason) -> bool {
        let _ = (kind, reason);
        true
    }
}

impl<F: Fn(&FinishedRecord) + Send + Sync + 'static> Subscriber for F {
    fn finished(&self, record: &FinishedRecord) {
        self(record)
    }
}

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordKind {
    /// A [`DialTrace`].
    Dial,
    /// A [`TcpConnTrace`].
    TcpConn,
    /// A [`UdpConnTrace`].
    UdpConn,
    /// A [`DnsQueryTrace`].
    DnsQuery,
    /// A [`TlsTunnelTrace`].
    TlsTunnel,
    /// An [`HttpReqTrace`].
    HttpRequest,
}

/// A record that has ended, with the identifiers and times that it has in a trace.
///
/// The record is final, except for `ctxCloseAt` of a dial: the request that triggered the dial may end later.
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
