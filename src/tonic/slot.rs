//! What a task of a channel is busy with.
//!
//! A connection is made in one task, which writes the first bytes to it and in the same poll starts the task that
//! takes calls to it. That one knows its connection from the one that started it, and tells each call that it takes.

use crate::sink::{ConnRef, DialRef};
use std::cell::Cell;

thread_local! {
    static CURRENT: Cell<Option<Slot>> = const { Cell::new(None) };
}

/// Goes with a task.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    /// The connection that was last written to.
    pub(super) conn: Option<ConnRef>,
    /// What was dialled last.
    pub(super) dials: Vec<DialRef>,
    /// It takes calls to that connection, rather than making connections.
    pub(super) takes_calls: bool,
}

/// Until its drop that slot is the current one, or none.
#[must_use = "it ends with its drop"]
pub(super) struct Within<'a>(&'a Cell<Option<Slot>>);

impl<'a> Within<'a> {
    /// Inside, the place has what was current outside.
    pub(super) fn enter(slot: &'a mut Option<Slot>) -> Self {
        let within = Within(Cell::from_mut(slot));
        within.swap();
        within
    }

    fn swap(&self) {
        let _ = CURRENT.try_with(|current| current.swap(self.0));
    }
}

impl Drop for Within<'_> {
    fn drop(&mut self) {
        self.swap();
    }
}

/// Runs what is not the channel's own. If that makes calls on channels, it is no business of this task's.
pub(super) fn outside<R>(f: impl FnOnce() -> R) -> R {
    let mut none = None;
    let _within = Within::enter(&mut none);
    f()
}

/// Shows the current slot to `f`, if there is one.
pub(super) fn with_current<R>(f: impl FnOnce(&mut Slot) -> R) -> Option<R> {
    CURRENT
        .try_with(|current| {
            let mut slot = current.take();
            let result = slot.as_mut().map(f);
            current.set(slot);
            result
        })
        .ok()
        .flatten()
}

/// What a task that is started now begins with.
pub(super) fn inherited() -> Slot {
    let inherited = with_current(|slot| Slot { takes_calls: false, ..slot.clone() });
    inherited.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dials() -> Option<usize> {
        with_current(|slot| slot.dials.len())
    }

    #[test]
    fn slots_nest_and_survive_a_panic() {
        assert_eq!(dials(), None);
        let mut task = Some(Slot { dials: vec![DialRef::default()], ..Slot::default() });
        {
            let _within = Within::enter(&mut task);
            assert_eq!((dials(), inherited().dials.len()), (Some(1), 1));
            outside(|| {
                assert_eq!(dials(), None);
                let mut inner = Some(Slot::default());
                let _inner = Within::enter(&mut inner);
                assert_eq!(dials(), Some(0));
            });
            let panicked = std::panic::catch_unwind(|| outside(|| panic!("on purpose")));
            assert!(panicked.is_err());
            assert_eq!(dials(), Some(1));
        }
        assert_eq!(dials(), None);
        assert!(task.is_some());
    }
}
