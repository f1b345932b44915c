//! The context of a channel's task: its connection and dials, in a thread-local while the task is polled.
//!
//! One task makes the connection. In a single poll, it writes the first bytes and starts the task that takes the
//! connection's gRPC calls, so the context still names that connection when the new task inherits it. Each call that
//! the new task takes reads the connection there.

use crate::{
    scoped::{self, ScopeGuard},
    sink::{ConnRef, DialRef},
};
use std::{cell::Cell, sync::Arc};

thread_local! {
    static CURRENT: Cell<Option<SharedContext>> = const { Cell::new(None) };
}

/// The context of a task. A task that it starts shares it until one of them changes it (by [`Arc::make_mut`]).
pub(super) type SharedContext = Arc<TaskContext>;

/// The connection and the dials of a task.
#[derive(Clone, Debug, Default)]
pub(super) struct TaskContext {
    /// The connection that the task wrote to last.
    pub(super) conn: Option<ConnRef>,
    /// The dials that no call was linked to yet.
    pub(super) dials: Vec<DialRef>,
    /// Whether the task has taken a call for `conn`. `LinkedBody` sets it; a task that only makes connections never has
    /// it set.
    pub(super) takes_calls: bool,
}

/// Makes a context the current one until the guard is dropped.
pub(super) fn enter_context(context: &mut Option<SharedContext>) -> ScopeGuard<'_, SharedContext> {
    scoped::enter(&CURRENT, context)
}

/// Runs `f` without a context, so that code which is not the channel's own can make calls on other channels.
pub(super) fn without_context<R>(f: impl FnOnce() -> R) -> R {
    let mut none = None;
    let _guard = enter_context(&mut none);
    f()
}

/// Calls `f` with the current context, if there is one.
pub(super) fn with_context<R>(f: impl FnOnce(&mut SharedContext) -> R) -> Option<R> {
    scoped::with_current(&CURRENT, f)
}

/// Returns the initial context of a task that the current one starts. Returns `None` if that is a task of a single call,
/// which the task of a connection starts after it has taken the call.
pub(super) fn inherited_context() -> Option<SharedContext> {
    match with_context(|context| (context.takes_calls, context.clone())) {
        None => Some(SharedContext::default()),
        Some((true, _)) => None,
        Some((false, context)) => Some(context),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dials() -> Option<usize> {
        with_context(|context| context.dials.len())
    }

    #[test]
    fn contexts_nest_and_survive_a_panic() {
        assert_eq!(dials(), None);
        let mut task =
            Some(Arc::new(TaskContext { dials: vec![DialRef::default()], ..TaskContext::default() }));
        {
            let _guard = enter_context(&mut task);
            let inherited = || inherited_context().map(|context| context.dials.len());
            assert_eq!((dials(), inherited()), (Some(1), Some(1)));
            with_context(|context| Arc::make_mut(context).takes_calls = true);
            assert_eq!((dials(), inherited()), (Some(1), None));
            without_context(|| {
                assert_eq!(dials(), None);
                let mut inner = Some(SharedContext::default());
                let _inner = enter_context(&mut inner);
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
