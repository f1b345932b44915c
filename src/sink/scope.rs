//! Whose poll is this? The request and the dial on whose behalf the current thread is polling a future.
//!
//! Set for the time of a poll and taken back after it. A dial begins on the task of the request that needs it
//! and may be finished by another: task-locals would be wrong, and there is nothing that could be passed.

use super::{group::Group, request::RequestRef};
use std::{cell::RefCell, sync::Arc};

thread_local! {
    static REQUEST: RefCell<Option<RequestRef>> = const { RefCell::new(None) };
    static DIAL: RefCell<Option<Arc<Group>>> = const { RefCell::new(None) };
}

/// Polls `f` on behalf of `request`, which is moved in and out again: no count is touched.
pub(super) fn with_request<R>(request: &mut Option<RequestRef>, f: impl FnOnce() -> R) -> R {
    struct Back<'a>(&'a mut Option<RequestRef>, Option<RequestRef>);
    impl Drop for Back<'_> {
        fn drop(&mut self) {
            let outer = self.1.take();
            *self.0 = REQUEST.try_with(|current| current.replace(outer)).ok().flatten();
        }
    }
    let outer = REQUEST.with(|current| current.replace(request.take()));
    let _back = Back(request, outer);
    f()
}

/// Shows the current request to `f`, if there is one.
#[inline]
pub(super) fn with_current(f: impl FnOnce(&RequestRef)) {
    let _ = REQUEST.try_with(|current| current.borrow().as_ref().map(f));
}

pub(super) fn request() -> Option<RequestRef> {
    REQUEST.try_with(|current| current.borrow().clone()).ok().flatten()
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
