//! What a caller holds to ask about its own request.

use super::record::RequestRef;
use crate::{
    error::FailureDetail,
    record::{EndReason, Failure, NetTrace, Timings, TraceId, limits::MAX_REQUEST_HOPS},
    sink::snapshot::builder,
};
use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Answers for one request at any time, also when it failed or was dropped.
///
/// A traced response has it ([`ResponseExt`]), and so have the errors of the preset client. To have it beforehand, put a
/// new one into the request's extensions:
///
/// ```
/// let handle = nettrace::RequestHandle::new();
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(handle.clone());
/// assert!(handle.id().is_undefined()); // not sent yet
/// ```
///
/// Where redirects were followed, it answers for the last hop; the hops before are in its trace.
#[derive(Clone, Default)]
pub struct RequestHandle(Inner);

#[derive(Clone)]
enum Inner {
    Bound(RequestRef),
    /// All hops, the last one last; `None` for what is not traced. So the handle is no larger than the reference.
    Slot(Option<Arc<Mutex<Vec<RequestRef>>>>),
}

impl Default for Inner {
    fn default() -> Self {
        Inner::Slot(Some(Arc::default()))
    }
}

impl RequestHandle {
    /// A handle that is bound when a request that carries it is sent through a traced client.
    pub fn new() -> Self {
        Self::default()
    }

    /// A handle that stays without a request.
    pub(crate) fn unbound() -> Self {
        RequestHandle(Inner::Slot(None))
    }

    /// The same, to be bound to the requests that follow from it, too.
    pub(crate) fn into_slot(self) -> Self {
        match self.0 {
            Inner::Slot(Some(_)) => self,
            Inner::Bound(request) => RequestHandle(Inner::Slot(Some(Arc::new(Mutex::new(vec![request]))))),
            Inner::Slot(None) => RequestHandle::new(),
        }
    }

    pub(in crate::sink) fn is_unbound(&self) -> bool {
        matches!(self.0, Inner::Slot(None))
    }

    pub(crate) fn of(request: &RequestRef) -> Self {
        RequestHandle(Inner::Bound(request.clone()))
    }

    /// The identifier of the request in a trace; empty when it was not traced, or not sent yet.
    pub fn id(&self) -> TraceId {
        self.last_hop().map_or_else(TraceId::default, |request| request.core().id(request.record_id()))
    }

    /// Where the time went, as far as the request has come.
    ///
    /// # Errors
    ///
    /// [`NotTraced`] when the request was not sent yet or the sink was off.
    pub fn timings(&self) -> Result<Timings, NotTraced> {
        let request = self.last_hop().ok_or(NotTraced)?;
        let (trace, id) = (self.trace(), request.core().id(request.record_id()));
        trace.http_requests.get(&id).map(|record| record.timings(&trace)).ok_or(NotTraced)
    }

    /// The trace of this request alone, with all that it refers to. Empty when it was not traced.
    pub fn trace(&self) -> NetTrace {
        match &self.0 {
            Inner::Slot(None) => NetTrace::default(),
            Inner::Bound(request) => builder::slice(request),
            Inner::Slot(Some(slot)) => {
                let hops = slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
                builder::hops(&hops)
            }
        }
    }

    /// The time for the whole request is over.
    pub(crate) fn timed_out(&self, text: &str) {
        if let Some(request) = self.last_hop() {
            request.end(
                EndReason::Timeout,
                Some(FailureDetail::new(Failure::GenericTimeoutError, text.to_owned())),
            );
        }
    }

    /// Ends the request of a redirect that the client follows: the rest of its response is not needed.
    pub(crate) fn redirect_followed(&self) {
        if let Some(request) = self.last_hop() {
            request.end(EndReason::Closed, None);
        }
    }

    /// Ends the request as failed because the client decided so, for instance because it cannot follow the redirect.
    pub(crate) fn failed(&self, failure: Failure, text: String) {
        if let Some(request) = self.last_hop() {
            request.end(EndReason::Failed, Some(FailureDetail::new(failure, text)));
        }
    }

    /// Ends the hold of a redirect that the client does not follow. See
    /// [`hold_redirects`](crate::request::TraceRequestLayer::hold_redirects).
    pub(crate) fn release(&self) {
        if let Some(request) = self.last_hop() {
            request.release();
        }
    }

    pub(crate) fn last_hop(&self) -> Option<RequestRef> {
        match &self.0 {
            Inner::Slot(None) => None,
            Inner::Bound(request) => Some(request.clone()),
            Inner::Slot(Some(slot)) => slot.lock().unwrap_or_else(PoisonError::into_inner).last().cloned(),
        }
    }

    pub(in crate::sink) fn bind(&self, request: RequestRef) {
        if let Inner::Slot(Some(slot)) = &self.0 {
            let mut hops = slot.lock().unwrap_or_else(PoisonError::into_inner);
            if hops.len() == usize::from(MAX_REQUEST_HOPS) {
                hops.remove(0);
            }
            hops.push(request);
        }
    }
}

impl fmt::Debug for RequestHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestHandle({})", self.id())
    }
}

/// The request was not sent yet, or the sink was off when it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotTraced;

impl fmt::Display for NotTraced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was not traced: it was not sent yet, or the sink was off")
    }
}

impl Error for NotTraced {}
