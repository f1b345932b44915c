//! The request and the dial for which the current thread polls a future, and the proxy that is being connected to.
//!
//! Each is set for the time of one poll and restored after it. A dial begins on the task of the request that needs it
//! and may be finished by another task, so task-locals would be wrong; and the interfaces between a client and its
//! connector leave nothing that could be passed as an argument.

use super::{dial::group::DialGroup, request::record::RequestRef};
use crate::record::Text;
use std::{cell::Cell, sync::Arc, thread::LocalKey};

pub(super) type Slot<T> = LocalKey<Cell<Option<T>>>;

thread_local! {
    static REQUEST: Cell<Option<RequestRef>> = const { Cell::new(None) };
    static DIAL: Cell<Option<Arc<DialGroup>>> = const { Cell::new(None) };
    static PROXY: Cell<Option<Arc<Text>>> = const { Cell::new(None) };
    /// The dials that begin during a call of [`collecting_dials`].
    #[cfg(feature = "tonic")]
    static BEGINNING_DIALS: Cell<Option<Vec<Arc<DialGroup>>>> = const { Cell::new(None) };
}

/// Runs `f` with `value` in the slot. Returns the result, and what `f` left in the slot.
///
/// What was in the slot before is restored, also if `f` panics.
#[inline]
pub(super) fn with_slot<T: 'static, R>(
    slot: &'static Slot<T>,
    value: T,
    f: impl FnOnce() -> R,
) -> (R, Option<T>) {
    struct RestoreOuter<'a, T: 'static>(&'static Slot<T>, Option<T>, &'a mut Option<T>);
    impl<T> Drop for RestoreOuter<'_, T> {
        fn drop(&mut self) {
            let outer = self.1.take();
            *self.2 = self.0.try_with(|slot| slot.replace(outer)).ok().flatten();
        }
    }
    let mut left = None;
    let back = RestoreOuter(slot, slot.replace(Some(value)), &mut left);
    let result = f();
    drop(back);
    (result, left)
}

/// Passes what is in the slot to `f`; returns `None` if the slot is empty.
#[inline]
pub(super) fn peek<T, R>(slot: &'static Slot<T>, f: impl FnOnce(&mut T) -> R) -> Option<R> {
    let peek = |slot: &Cell<Option<T>>| {
        let mut value = slot.take();
        let result = value.as_mut().map(f);
        slot.set(value);
        result
    };
    slot.try_with(peek).ok().flatten()
}

/// A guard: what is polled until it is dropped is polled for a request, if there is one.
#[must_use = "it ends with its drop"]
pub(crate) struct RequestScope<'a>(Option<&'a Cell<Option<RequestRef>>>);

impl<'a> RequestScope<'a> {
    /// Moves the request into the slot, and back when the guard is dropped: no reference count is touched.
    #[inline]
    pub(super) fn enter(request: &'a mut Option<RequestRef>) -> Self {
        let scope = RequestScope(request.is_some().then(|| Cell::from_mut(request)));
        scope.swap();
        scope
    }

    /// Exchanges the request with the current one.
    #[inline]
    fn swap(&self) {
        if let Some(place) = self.0 {
            let _ = REQUEST.try_with(|current| current.swap(place));
        }
    }
}

impl Drop for RequestScope<'_> {
    #[inline]
    fn drop(&mut self) {
        self.swap();
    }
}

/// Passes the current request to `f`, if there is one.
#[inline]
pub(super) fn with_current_request(f: impl FnOnce(&RequestRef)) {
    peek(&REQUEST, |request| f(request));
}

/// Replaces the current request, if there is one, by what `f` returns. Whoever entered the scope gets the new one back.
#[cfg(feature = "reqwest")]
pub(super) fn replace_request(f: impl FnOnce(&RequestRef) -> Option<RequestRef>) {
    let next = current_request().and_then(|request| f(&request));
    if next.is_some() {
        let _ = REQUEST.try_with(|current| current.set(next));
    }
}

pub(super) fn current_request() -> Option<RequestRef> {
    peek(&REQUEST, |request| request.clone())
}

/// Runs `f`, a poll, with `dial` as the current dial.
pub(super) fn with_dial<R>(dial: &Arc<DialGroup>, f: impl FnOnce() -> R) -> R {
    with_slot(&DIAL, dial.clone(), f).0
}

pub(super) fn current_dial() -> Option<Arc<DialGroup>> {
    peek(&DIAL, |dial| dial.clone())
}

/// Runs `f` with `proxy` as the proxy that is being connected to.
pub(super) fn with_proxy<R>(proxy: &Arc<Text>, f: impl FnOnce() -> R) -> R {
    with_slot(&PROXY, proxy.clone(), f).0
}

/// Returns the proxy that is being connected to.
pub(super) fn current_proxy() -> Option<Arc<Text>> {
    peek(&PROXY, |proxy| proxy.clone())
}

/// Runs `poll`. Returns its result, and the dials that began in it.
#[cfg(feature = "tonic")]
pub(super) fn collecting_dials<R>(poll: impl FnOnce() -> R) -> (R, Vec<Arc<DialGroup>>) {
    let (result, begun) = with_slot(&BEGINNING_DIALS, Vec::new(), poll);
    (result, begun.unwrap_or_default())
}

#[cfg(feature = "tonic")]
pub(super) fn note_begun_dial(group: &Arc<DialGroup>) {
    peek(&BEGINNING_DIALS, |dials| dials.push(group.clone()));
}
