//! Whose poll is this? The request and the dial on whose behalf the current thread is polling a future.
//!
//! Set for the time of a poll and taken back after it. A dial begins on the task of the request that needs it
//! and may be finished by another: task-locals would be wrong, and there is nothing that could be passed.

use super::{group::Group, request::RequestRef};
use std::{
    cell::{Cell, RefCell},
    sync::Arc,
};

thread_local! {
    static REQUEST: Cell<Option<RequestRef>> = const { Cell::new(None) };
    static DIAL: RefCell<Option<Arc<Group>>> = const { RefCell::new(None) };
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

pub(super) fn dial() -> Option<Arc<Group>> {
    DIAL.try_with(|current| current.borrow().clone()).ok().flatten()
}
