//! What a task of a channel is busy with.
//!
//! A connection is made in one task, which writes the first bytes to it and in the same poll starts the task that
//! takes calls to it. That one knows its connection from the one that started it, and tells each call that it takes.

use crate::sink::{ConnRef, DialRef};
use std::cell::Cell;

thread_local! {
    static CURRENT: Cell<Option<TaskContext>> = const { Cell::new(None) };
}

/// Goes with a task.
#[derive(Clone, Debug, Default)]
pub(super) struct TaskContext {
    /// The connection that was last written to.
    pub(super) conn: Option<ConnRef>,
    /// What was dialled last.
    pub(super) dials: Vec<DialRef>,
    /// It takes calls to that connection, rather than making connections.
    pub(super) takes_calls: bool,
}

/// Until its drop that context is the current one, or none.
#[must_use = "it ends with its drop"]
pub(super) struct ContextGuard<'a>(&'a Cell<Option<TaskContext>>);

impl<'a> ContextGuard<'a> {
    /// Inside, the place has what was current outside.
    pub(super) fn enter(context: &'a mut Option<TaskContext>) -> Self {
        let guard = ContextGuard(Cell::from_mut(context));
        guard.swap();
        guard
    }

    fn swap(&self) {
        let _ = CURRENT.try_with(|current| current.swap(self.0));
    }
}

impl Drop for ContextGuard<'_> {
    fn drop(&mut self) {
        self.swap();
    }
}

/// Runs what is not the channel's own. If that makes calls on channels, it is no business of this task's.
pub(super) fn without_context<R>(f: impl FnOnce() -> R) -> R {
    let mut none = None;
    let _guard = ContextGuard::enter(&mut none);
    f()
}

/// Shows the current context to `f`, if there is one.
pub(super) fn with_context<R>(f: impl FnOnce(&mut TaskContext) -> R) -> Option<R> {
    CURRENT
        .try_with(|current| {
            let mut context = current.take();
            let result = context.as_mut().map(f);
            current.set(context);
            result
        })
        .ok()
        .flatten()
}

/// What a task that is started now begins with.
pub(super) fn inherited_context() -> TaskContext {
    let inherited_context = with_context(|context| TaskContext { takes_calls: false, ..context.clone() });
    inherited_context.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dials() -> Option<usize> {
        with_context(|context| context.dials.len())
    }

    #[test]
    fn slots_nest_and_survive_a_panic() {
        assert_eq!(dials(), None);
        let mut task = Some(TaskContext { dials: vec![DialRef::default()], ..TaskContext::default() });
        {
            let _guard = ContextGuard::enter(&mut task);
            assert_eq!((dials(), inherited_context().dials.len()), (Some(1), 1));
            without_context(|| {
                assert_eq!(dials(), None);
                let mut inner = Some(TaskContext::default());
                let _inner = ContextGuard::enter(&mut inner);
                assert_eq!(dials(), Some(0));
            });
            let panicked = std::panic::catch_unwind(|| without_context(|| panic!("on purpose")));
            assert!(panicked.is_err());
            assert_eq!(dials(), Some(1));
        }
        assert_eq!(dials(), None);
        assert!(task.is_some());
    }
}
