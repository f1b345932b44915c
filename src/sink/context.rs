//! Whose poll is this? The request and the dial on whose behalf the current thread is polling a future, and the proxy
//! that is being connected to.
//!
//! Set for the time of a poll and taken back after it. A dial begins on the task of the request that needs it
//! and may be finished by another: task-locals would be wrong, and there is nothing that could be passed.

use super::{
    core::Core,
    dial::{group::Group, recorder::DialRecorder},
    request::record::RequestRef,
};
use crate::record::Text;
use std::{cell::Cell, sync::Arc, thread::LocalKey};

type Slot<T> = LocalKey<Cell<Option<T>>>;

thread_local! {
    static REQUEST: Cell<Option<RequestRef>> = const { Cell::new(None) };
    static DIAL: Cell<Option<Arc<Group>>> = const { Cell::new(None) };
    static PROXY: Cell<Option<Arc<Text>>> = const { Cell::new(None) };
    /// A dial that has begun before whoever records it was asked to.
    static BEGUN: Cell<Option<DialRecorder>> = const { Cell::new(None) };
    /// The dials that begin while somebody looks.
    #[cfg(feature = "tonic")]
    static OBSERVED: Cell<Option<Vec<Arc<Group>>>> = const { Cell::new(None) };
}

/// What `f` returns with `value` in the slot, and what is left there. What was there before is put back, also when
/// `f` panics.
#[inline]
fn within<T: 'static, R>(slot: &'static Slot<T>, value: T, f: impl FnOnce() -> R) -> (R, Option<T>) {
    struct Back<'a, T: 'static>(&'static Slot<T>, Option<T>, &'a mut Option<T>);
    impl<T> Drop for Back<'_, T> {
        fn drop(&mut self) {
            let outer = self.1.take();
            *self.2 = self.0.try_with(|slot| slot.replace(outer)).ok().flatten();
        }
    }
    let mut left = None;
    let back = Back(slot, slot.replace(Some(value)), &mut left);
    let result = f();
    drop(back);
    (result, left)
}

/// Shows what is in the slot to `f`, if there is something.
#[inline]
fn look<T, R>(slot: &'static Slot<T>, f: impl FnOnce(&mut T) -> R) -> Option<R> {
    let look = |slot: &Cell<Option<T>>| {
        let mut value = slot.take();
        let result = value.as_mut().map(f);
        slot.set(value);
        result
    };
    slot.try_with(look).ok().flatten()
}

/// What is polled until its drop is polled on behalf of a request, if there is one.
#[must_use = "it ends with its drop"]
pub(crate) struct RequestScope<'a>(Option<&'a Cell<Option<RequestRef>>>);

impl<'a> RequestScope<'a> {
    /// The request is moved in and out again: no count is touched.
    #[inline]
    pub(super) fn enter(request: &'a mut Option<RequestRef>) -> Self {
        let scope = RequestScope(request.is_some().then(|| Cell::from_mut(request)));
        scope.swap();
        scope
    }

    /// Outside the place holds the request, inside what was current before.
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

/// Shows the current request to `f`, if there is one.
#[inline]
pub(super) fn with_current(f: impl FnOnce(&RequestRef)) {
    look(&REQUEST, |request| f(request));
}

/// Puts another request in the place of the current one, if there is one: whoever entered the scope gets that back.
#[cfg(feature = "reqwest")]
pub(super) fn replace(f: impl FnOnce(&RequestRef) -> Option<RequestRef>) {
    let next = request().and_then(|request| f(&request));
    if next.is_some() {
        let _ = REQUEST.try_with(|current| current.set(next));
    }
}

pub(super) fn request() -> Option<RequestRef> {
    look(&REQUEST, |request| request.clone())
}

/// Polls `f` on behalf of `dial`.
pub(super) fn with_dial<R>(dial: &Arc<Group>, f: impl FnOnce() -> R) -> R {
    within(&DIAL, dial.clone(), f).0
}

pub(super) fn dial() -> Option<Arc<Group>> {
    look(&DIAL, |dial| dial.clone())
}

/// Runs `f`, in which whoever dials connects to that proxy.
pub(super) fn with_proxy<R>(proxy: &Arc<Text>, f: impl FnOnce() -> R) -> R {
    within(&PROXY, proxy.clone(), f).0
}

/// The proxy that is being connected to.
pub(super) fn proxy() -> Option<Arc<Text>> {
    look(&PROXY, |proxy| proxy.clone())
}

/// Runs `f`, in which a dial that is about to begin is this one, which has begun. Gives it back if nobody took it.
pub(super) fn with_begun<R>(dial: DialRecorder, f: impl FnOnce() -> R) -> (R, Option<DialRecorder>) {
    within(&BEGUN, dial, f)
}

/// The dial that has begun already, if it is one of that sink's.
pub(super) fn begun(core: &Arc<Core>) -> Option<DialRecorder> {
    let is_ours = look(&BEGUN, |dial| dial.is_of(core)).unwrap_or(false);
    is_ours.then(|| BEGUN.take()).flatten()
}

/// What `poll` returns, and the dials that began in it.
#[cfg(feature = "tonic")]
pub(super) fn observing_dials<R>(poll: impl FnOnce() -> R) -> (R, Vec<Arc<Group>>) {
    let (result, begun) = within(&OBSERVED, Vec::new(), poll);
    (result, begun.unwrap_or_default())
}

#[cfg(feature = "tonic")]
pub(super) fn dial_begins(group: &Arc<Group>) {
    look(&OBSERVED, |dials| dials.push(group.clone()));
}
