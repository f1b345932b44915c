//! Whose poll is this? The request and the dial on whose behalf the current thread is polling a future, and the proxy
//! that is being connected to.
//!
//! Set for the time of a poll and taken back after it. A dial begins on the task of the request that needs it
//! and may be finished by another: task-locals would be wrong, and there is nothing that could be passed.

use super::{core::Core, dial::DialRecorder, group::Group, request::RequestRef};
use crate::record::Text;
use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

thread_local! {
    static REQUEST: Cell<Option<RequestRef>> = const { Cell::new(None) };
    static DIAL: RefCell<Option<Arc<Group>>> = const { RefCell::new(None) };
    static PROXY: RefCell<Option<Arc<Text>>> = const { RefCell::new(None) };
    static BEGUN: Cell<Option<DialRecorder>> = const { Cell::new(None) };
    #[cfg(feature = "tonic")]
    static OBSERVED: Cell<Option<Vec<Arc<Group>>>> = const { Cell::new(None) };
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
    let _ = REQUEST.try_with(|current| {
        let request = current.take();
        request.as_ref().map(f);
        current.set(request);
    });
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
    let mut current = None;
    with_current(|request| current = Some(request.clone()));
    current
}

/// Polls `f` on behalf of `dial`.
pub(super) fn with_dial<R>(dial: &Arc<Group>, f: impl FnOnce() -> R) -> R {
    struct Back(Option<Arc<Group>>);
    impl Drop for Back {
        fn drop(&mut self) {
            let outer = self.0.take();
            let _ = DIAL.try_with(|current| current.replace(outer));
        }
    }
    let _back = Back(DIAL.with(|current| current.replace(Some(dial.clone()))));
    f()
}

/// Runs `f`, in which whoever dials connects to that proxy.
pub(super) fn with_proxy<R>(proxy: &Arc<Text>, f: impl FnOnce() -> R) -> R {
    struct Back(Option<Arc<Text>>);
    impl Drop for Back {
        fn drop(&mut self) {
            let outer = self.0.take();
            let _ = PROXY.try_with(|current| current.replace(outer));
        }
    }
    let _back = Back(PROXY.with(|current| current.replace(Some(proxy.clone()))));
    f()
}

/// The proxy that is being connected to.
pub(super) fn proxy() -> Option<Arc<Text>> {
    PROXY.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// Runs `f`, in which a dial that is about to begin is this one, which has begun. Gives it back if nobody took it.
pub(super) fn with_begun<R>(dial: DialRecorder, f: impl FnOnce() -> R) -> (R, Option<DialRecorder>) {
    struct Back<'a>(Option<DialRecorder>, &'a mut Option<DialRecorder>);
    impl Drop for Back<'_> {
        fn drop(&mut self) {
            let outer = self.0.take();
            *self.1 = BEGUN.try_with(|begun| begun.replace(outer)).ok().flatten();
        }
    }
    let mut left = None;
    let back = Back(BEGUN.with(|begun| begun.replace(Some(dial))), &mut left);
    let result = f();
    drop(back);
    (result, left)
}

/// The dial that has begun already, if it is one of that sink's.
pub(super) fn begun(core: &Arc<Core>) -> Option<DialRecorder> {
    let take = |begun: &Cell<Option<DialRecorder>>| {
        let (mine, other) = match begun.take() {
            Some(dial) if dial.is_of(core) => (Some(dial), None),
            other => (None, other),
        };
        begun.set(other);
        mine
    };
    BEGUN.try_with(take).ok().flatten()
}

pub(super) fn dial() -> Option<Arc<Group>> {
    DIAL.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// What `poll` returns, and the dials that began in it.
#[cfg(feature = "tonic")]
pub(super) fn observing_dials<R>(poll: impl FnOnce() -> R) -> (R, Vec<Arc<Group>>) {
    struct Back(Option<Vec<Arc<Group>>>);
    impl Drop for Back {
        fn drop(&mut self) {
            let _ = OBSERVED.try_with(|begun| begun.set(self.0.take()));
        }
    }
    let _back = Back(OBSERVED.replace(Some(Vec::new())));
    let result = poll();
    (result, OBSERVED.take().unwrap_or_default())
}

#[cfg(feature = "tonic")]
pub(super) fn dial_begins(group: &Arc<Group>) {
    let _ = OBSERVED.try_with(|begun| {
        let mut dials = begun.take();
        dials.iter_mut().for_each(|dials| dials.push(group.clone()));
        begun.set(dials);
    });
}
