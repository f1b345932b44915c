//! [`RequestHandle`]: what a user holds to ask about a request.

use super::{record::RequestRef, tags::Tags};
#[cfg(feature = "explain")]
use crate::explain::{self, Verdict};
#[cfg(feature = "_record_requests")]
use crate::record::limits::MAX_REQUEST_HOPS;
#[cfg(feature = "server")]
use crate::sink::context;
#[cfg(feature = "client")]
use crate::{
    error::FailureDetail,
    record::{EndReason, Failure},
};
use crate::{
    record::{NetTrace, Timings, TraceId},
    sink::snapshot::builder,
    sync::IgnorePoison,
};
use smallvec::SmallVec;
use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex},
};

/// Answers for one request at any time, also if it failed or was dropped.
///
/// A traced response has it ([`ResponseExt`](crate::ResponseExt)), and so have the errors of the preset client. To have
/// it beforehand, put a new one into the request's extensions:
///
/// ```
/// let handle = nettrace::RequestHandle::new();
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(handle.clone());
/// assert!(handle.id().is_undefined()); // not sent yet
/// ```
///
/// If redirects were followed, the handle answers for the last hop; the hops before it are in its trace.
#[derive(Clone, Default)]
pub struct RequestHandle(Inner);

#[derive(Clone)]
enum Inner {
    // Not gated: without it the handle would be `UnwindSafe`, which a feature must not take away.
    #[cfg_attr(
        not(feature = "request"),
        expect(dead_code, reason = "read in each set of features, made only where requests are recorded")
    )]
    Bound(RequestRef),
    /// All hops, the last one last; `None` if nothing is traced. The slot is boxed so that the handle is no larger than
    /// a reference to a request. Most requests are not redirected, and their box is the only allocation.
    Slot(Option<Arc<Mutex<Slot>>>),
}

/// What is bound to a handle, and what is to be written on requests that will be.
#[derive(Default)]
struct Slot {
    hops: SmallVec<[RequestRef; 1]>,
    tags: Option<Box<Tags>>,
    keep: bool,
}

impl Default for Inner {
    fn default() -> Self {
        Inner::Slot(Some(Arc::default()))
    }
}

impl RequestHandle {
    /// Creates a handle, which is bound when a request that carries it is sent through a traced client.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the handle of the request that a traced server is answering in this task; one without a request if there
    /// is none. See [`server`](crate::server#requests-made-by-a-handler).
    #[cfg(feature = "server")]
    pub fn current() -> Self {
        context::served_request().map_or_else(RequestHandle::unbound, |request| Self::of(&request))
    }

    /// Creates a handle that stays without a request.
    pub(crate) fn unbound() -> Self {
        RequestHandle(Inner::Slot(None))
    }

    pub(in crate::sink) fn is_unbound(&self) -> bool {
        matches!(self.0, Inner::Slot(None))
    }

    #[cfg(feature = "request")]
    pub(crate) fn of(request: &RequestRef) -> Self {
        RequestHandle(Inner::Bound(request.clone()))
    }

    /// Returns the identifier of the request in a trace; the empty one if it was not traced, or not sent yet.
    pub fn id(&self) -> TraceId {
        self.last_hop().map_or_else(TraceId::default, |request| request.core().id(request.record_id()))
    }

    /// Returns how the time was spent, as far as the request has come.
    ///
    /// # Errors
    ///
    /// [`NotTraced`] if the request was not sent yet, or the sink was off.
    pub fn timings(&self) -> Result<Timings, NotTraced> {
        self.last_hop().map(|request| request.timings()).ok_or(NotTraced)
    }

    /// Returns the trace of this request alone, with everything that it refers to. The trace is empty if the request
    /// was not traced.
    pub fn trace(&self) -> NetTrace {
        match &self.0 {
            Inner::Slot(None) => NetTrace::default(),
            Inner::Bound(request) => builder::slice(request),
            Inner::Slot(Some(slot)) => {
                let hops = slot.lock().ignore_poison().hops.clone();
                builder::hops(&hops)
            }
        }
    }

    /// Says why the request failed or was slow, from its own trace. Returns `None` if nothing was found, or the request
    /// was not traced.
    ///
    /// Causes that show only in comparison with other requests are found by [`explain`](crate::explain::explain) of the
    /// sink's trace.
    #[cfg(feature = "explain")]
    pub fn explain(&self) -> Option<Verdict> {
        let id = self.id();
        let explanation = explain::explain(&self.trace());
        explanation.verdicts.into_iter().find(|verdict| verdict.subject == id)
    }

    /// Writes a tag on the request: a key with a value that the program knows and the network does not, such as a
    /// tenant or an attempt. The value of a key that is there already is replaced.
    ///
    /// A handle that is not bound yet keeps its tags for the requests that will be sent with it, each hop of a redirect
    /// included. Tags are recorded as they are, so they must not contain secrets. A request keeps 32 tags, 64 bytes of
    /// a key and 256 bytes of a value. After its end, nothing is added.
    ///
    /// ```
    /// use nettrace::RequestHandle;
    ///
    /// let handle = RequestHandle::new();
    /// handle.tag("tenant", "acme");
    /// handle.tag("attempt", 2);
    /// let mut request = http::Request::new(());
    /// request.extensions_mut().insert(handle);
    /// ```
    pub fn tag(&self, key: &str, value: impl fmt::Display) {
        let value = value.to_string();
        match &self.0 {
            Inner::Slot(None) => {}
            Inner::Bound(request) => request.tag(key, &value),
            Inner::Slot(Some(slot)) => {
                let mut slot = slot.lock().ignore_poison();
                slot.tags.get_or_insert_default().set(key, &value);
                if let Some(last) = slot.hops.last() {
                    last.tag(key, &value);
                }
            }
        }
    }

    /// Has the sink keep the request longer than others, like those that [`Retention::keep`](crate::Retention::keep)
    /// chooses. A handle that is not bound yet does so for the requests that will be sent with it.
    pub fn keep(&self) {
        match &self.0 {
            Inner::Slot(None) => {}
            Inner::Bound(request) => request.record.choose(),
            Inner::Slot(Some(slot)) => {
                let mut slot = slot.lock().ignore_poison();
                slot.keep = true;
                slot.hops.iter().for_each(|hop| hop.record.choose());
            }
        }
    }

    pub(crate) fn last_hop(&self) -> Option<RequestRef> {
        match &self.0 {
            Inner::Slot(None) => None,
            Inner::Bound(request) => Some(request.clone()),
            Inner::Slot(Some(slot)) => slot.lock().ignore_poison().hops.last().cloned(),
        }
    }

    #[cfg(feature = "_record_requests")]
    pub(in crate::sink) fn bind(&self, request: RequestRef) {
        if let Inner::Slot(Some(slot)) = &self.0 {
            let Slot { hops, tags, keep } = &mut *slot.lock().ignore_poison();
            if let Some(tags) = tags {
                request.set_tags(tags);
            }
            if *keep {
                request.record.choose();
            }
            if hops.len() == usize::from(MAX_REQUEST_HOPS) {
                hops.remove(0);
            }
            hops.push(request);
        }
    }
}

#[cfg(feature = "client")]
impl RequestHandle {
    /// Returns a handle of the same request that is also bound to the requests that follow it.
    pub(crate) fn into_slot(self) -> Self {
        match self.0 {
            Inner::Slot(Some(_)) => self,
            Inner::Bound(request) => {
                let tags = request.tags().map(Box::new);
                let slot = Slot { tags, keep: request.record.is_chosen(), hops: [request].into() };
                RequestHandle(Inner::Slot(Some(Arc::new(Mutex::new(slot)))))
            }
            Inner::Slot(None) => RequestHandle::new(),
        }
    }

    /// Ends the request because the time for all of it is over.
    pub(crate) fn timed_out(&self, text: &str) {
        if let Some(request) = self.last_hop() {
            request.end(
                EndReason::Timeout,
                Some(FailureDetail::new(Failure::GenericTimeoutError, text.to_owned())),
            );
        }
    }

    /// Ends the request of a redirect that the client follows: it does not need the rest of the response.
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
}

impl fmt::Debug for RequestHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestHandle({})", self.id())
    }
}

/// An error: the request was not sent yet, or the sink was off when it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotTraced;

impl fmt::Display for NotTraced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was not traced: it was not sent yet, or the sink was off")
    }
}

impl Error for NotTraced {}
