//! [`Slice`]: a finished request with all its records, as a [`SliceReceiver`] is handed it.

#[cfg(feature = "explain")]
use crate::explain::{self, Verdict};
use crate::record::{HttpReqTrace, NetTrace, Timings, TraceId};
#[cfg(feature = "explain")]
use std::sync::OnceLock;

/// A finished request with everything that it refers to: its connections, tunnels and dials, their DNS messages and
/// failed attempts, and the hops before it.
#[derive(Clone, Debug)]
pub struct Slice {
    id: TraceId,
    trace: NetTrace,
    #[cfg(feature = "explain")]
    verdict: OnceLock<Option<Verdict>>,
}

impl Slice {
    /// Returns the slice of a request; `None` if it is not in the trace.
    pub(super) fn new(id: TraceId, trace: NetTrace) -> Option<Self> {
        trace.http_requests.get(&id)?;
        Some(Slice {
            id,
            trace,
            #[cfg(feature = "explain")]
            verdict: OnceLock::new(),
        })
    }

    /// Returns the record of the request.
    pub fn request(&self) -> &HttpReqTrace {
        self.trace.http_requests.get(&self.id).expect("`new` has looked it up")
    }

    /// Returns how the time was spent.
    pub fn timings(&self) -> Timings {
        self.request().timings(&self.trace)
    }

    /// Returns all records of the slice.
    pub fn trace(&self) -> &NetTrace {
        &self.trace
    }

    /// Returns all records of the slice.
    pub fn into_trace(self) -> NetTrace {
        self.trace
    }

    /// Returns why the request failed or was slow, from the slice alone. Returns `None` if nothing was found. The answer
    /// of the first call is kept.
    #[cfg(feature = "explain")]
    pub fn explain(&self) -> Option<&Verdict> {
        let find = || {
            let explanation = explain::explain(&self.trace);
            explanation.verdicts.into_iter().find(|verdict| verdict.subject == self.id)
        };
        self.verdict.get_or_init(find).as_ref()
    }
}

/// A receiver of the slices that a [`SliceFilter`](super::SliceFilter) chooses, such as a file or a database.
///
/// It has a thread of its own, so that it may block. Any `FnMut(Slice)` is a receiver.
pub trait SliceReceiver: Send + 'static {
    /// Receives a slice. A panic is contained and reported through `tracing` (target `nettrace`).
    fn receive(&mut self, slice: Slice);

    /// Called when all slices were received that had been queued, at most twenty times a second. A receiver that collects
    /// slices writes them now.
    fn flush(&mut self) {}

    /// Receives the number of slices that were lost because the receiver was too slow, since the last call.
    fn lost(&mut self, slices: u64) {
        tracing::warn!(target: "nettrace", "a receiver of slices is too slow: {slices} were dropped");
    }
}

impl<F: FnMut(Slice) + Send + 'static> SliceReceiver for F {
    fn receive(&mut self, slice: Slice) {
        self(slice)
    }
}
