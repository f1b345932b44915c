//! [`FinishedRequest`]: a request that has ended, as subscribers are handed it.

#[cfg(feature = "explain")]
use crate::explain::{self, Verdict};
use crate::record::{HttpReqTrace, NetTrace, Timings};
use std::{fmt, net::SocketAddr};

/// A request that has ended, with what its record alone does not tell.
///
/// [`trace`](Self::trace) puts the records together when it is called.
pub struct FinishedRequest<'a> {
    pub(super) record: &'a HttpReqTrace,
    pub(super) peer_addr: Option<SocketAddr>,
    pub(super) is_conn_reused: Option<bool>,
    pub(super) trace: &'a dyn Fn() -> NetTrace,
    pub(super) timings: &'a dyn Fn() -> Timings,
}

impl FinishedRequest<'_> {
    /// Returns the record of the request.
    pub fn record(&self) -> &HttpReqTrace {
        self.record
    }

    /// Returns the address of the connection's peer, if there is one and it is known. With a proxy, that is the proxy.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer_addr
    }

    /// Returns whether the connection had been open when the request was sent. `None` for accepted requests, and without a
    /// connection.
    pub fn is_conn_reused(&self) -> Option<bool> {
        self.is_conn_reused
    }

    /// Returns how the time was spent.
    pub fn timings(&self) -> Timings {
        (self.timings)()
    }

    /// Returns the trace of this request alone, with everything that it refers to, which is put together for each call.
    pub fn trace(&self) -> NetTrace {
        (self.trace)()
    }

    /// Returns why the request failed or was slow, from its own trace. Returns `None` if nothing was found. See
    /// [`RequestHandle::explain`](crate::RequestHandle::explain).
    #[cfg(feature = "explain")]
    pub fn explain(&self) -> Option<Verdict> {
        let explanation = explain::explain(&self.trace());
        explanation.verdicts.into_iter().find(|verdict| verdict.subject == self.record.trace_id)
    }
}

impl fmt::Debug for FinishedRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FinishedRequest").field("record", &self.record).finish_non_exhaustive()
    }
}
