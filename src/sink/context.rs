//! The requests and the dial for which the current thread polls a future: the request that is being sent, the one that
//! is being answered, the dial; and the proxy that is being connected to.
//!
//! Each is set for the time of one poll and restored after it (see [`scoped`]): the interfaces between a client and its
//! connector leave nothing that could be passed as an argument.

#[cfg(feature = "_record_conns")]
use super::dial::group::DialGroup;
#[cfg(any(feature = "connect", feature = "request"))]
use super::request::record::RequestRef;
#[cfg(feature = "server")]
use super::{core::Core, record_id::RecordId};
#[cfg(feature = "_record_conns")]
use crate::record::Text;
use crate::scoped;
#[cfg(feature = "request")]
use crate::scoped::ScopeGuard;
use std::cell::Cell;
#[cfg(feature = "_record_conns")]
use std::sync::Arc;

thread_local! {
    #[cfg(any(feature = "connect", feature = "request"))]
    static REQUEST: Cell<Option<RequestRef>> = const { Cell::new(None) };
    /// The request that is being answered.
    #[cfg(feature = "server")]
    static SERVED: Cell<Option<RequestRef>> = const { Cell::new(None) };
    #[cfg(feature = "_record_conns")]
    static DIAL: Cell<Option<Arc<DialGroup>>> = const { Cell::new(None) };
    #[cfg(feature = "_record_conns")]
    static PROXY: Cell<Option<Arc<Text>>> = const { Cell::new(None) };
    /// The dials that begin during a call of [`collecting_dials`].
    #[cfg(feature = "tonic")]
    static BEGINNING_DIALS: Cell<Option<Vec<Arc<DialGroup>>>> = const { Cell::new(None) };
}

/// A guard that makes a request the current one until it is dropped.
#[cfg(feature = "request")]
#[must_use = "it ends with its drop"]
pub(crate) struct RequestScope<'a> {
    _guard: Option<ScopeGuard<'a, RequestRef>>,
}

#[cfg(feature = "request")]
impl<'a> RequestScope<'a> {
    /// Moves the request into the thread-local, and back when the guard is dropped: no reference count is touched.
    #[inline]
    pub(super) fn enter(request: &'a mut Option<RequestRef>) -> Self {
        // An empty place would hide the request of an outer scope.
        RequestScope { _guard: request.is_some().then(|| scoped::enter(&REQUEST, request)) }
    }

    /// Makes the request the one that is being answered, in the same way.
    #[cfg(feature = "server")]
    #[inline]
    pub(super) fn enter_served(request: &'a mut Option<RequestRef>) -> Self {
        RequestScope { _guard: request.is_some().then(|| scoped::enter(&SERVED, request)) }
    }
}

/// Returns the request that is being answered.
#[cfg(feature = "server")]
pub(super) fn served_request() -> Option<RequestRef> {
    scoped::current(&SERVED)
}

/// Returns the request that is being answered, if it is recorded by the sink of `core`.
#[cfg(feature = "server")]
#[inline]
pub(super) fn served_request_of(core: &Core) -> Option<RecordId> {
    scoped::with_current(&SERVED, |request| {
        std::ptr::eq(&**request.core(), core).then(|| request.record_id())
    })
    .flatten()
}

/// Passes the current request to `f`, if there is one.
#[cfg(feature = "request")]
#[inline]
pub(super) fn with_current_request(f: impl FnOnce(&RequestRef)) {
    scoped::with_current(&REQUEST, |request| f(request));
}

/// Replaces the current request, if there is one, by what `f` returns. Whoever entered the scope gets the new one back.
#[cfg(feature = "reqwest")]
pub(super) fn replace_request(f: impl FnOnce(&RequestRef) -> Option<RequestRef>) {
    let next = current_request().and_then(|request| f(&request));
    if next.is_some() {
        let _ = REQUEST.try_with(|current| current.set(next));
    }
}

#[cfg(feature = "connect")]
pub(super) fn current_request() -> Option<RequestRef> {
    scoped::current(&REQUEST)
}

/// Runs `f`, a poll, with `dial` as the current dial.
#[cfg(feature = "connect")]
pub(super) fn with_dial<R>(dial: &Arc<DialGroup>, f: impl FnOnce() -> R) -> R {
    scoped::scope(&DIAL, dial.clone(), f)
}

#[cfg(any(feature = "resolve", feature = "tls"))]
pub(super) fn current_dial() -> Option<Arc<DialGroup>> {
    scoped::current(&DIAL)
}

/// Runs `f` with `proxy` as the proxy that is being connected to.
#[cfg(feature = "proxy")]
pub(super) fn with_proxy<R>(proxy: &Arc<Text>, f: impl FnOnce() -> R) -> R {
    scoped::scope(&PROXY, proxy.clone(), f)
}

/// Returns the proxy that is being connected to.
#[cfg(feature = "_record_conns")]
pub(super) fn current_proxy() -> Option<Arc<Text>> {
    scoped::current(&PROXY)
}

/// Runs `poll`. Returns its result, and the dials that began in it.
#[cfg(feature = "tonic")]
pub(super) fn collecting_dials<R>(poll: impl FnOnce() -> R) -> (R, Vec<Arc<DialGroup>>) {
    let (result, begun) = scoped::scope_and_take(&BEGINNING_DIALS, Vec::new(), poll);
    (result, begun.unwrap_or_default())
}

#[cfg(feature = "tonic")]
pub(super) fn note_begun_dial(group: &Arc<DialGroup>) {
    scoped::with_current(&BEGINNING_DIALS, |dials| dials.push(group.clone()));
}
