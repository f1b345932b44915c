//! What an exchange wants of the dials that it begins.
//!
//! hyper-util's pool lets a request race its own dial against connections that others give back. Where the dial
//! loses, it is left to itself: it must not wait for a turn that nobody needs any more. And a connection that was
//! made for a request is not idle before that request had a chance to take it.

use super::control::Lease;
use std::{
    cell::RefCell,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio_util::sync::CancellationToken;

/// Shared by an exchange that has no connection yet and the dials that it began.
#[derive(Debug)]
pub(super) struct Wish {
    /// Connections made for the exchange; `None` when it wants none any more.
    made: Mutex<Option<Vec<Lease>>>,
    over: CancellationToken,
}

thread_local! {
    static CURRENT: RefCell<Option<WishSlot>> = const { RefCell::new(None) };
}

/// An exchange's place for a wish: made only when it dials.
#[derive(Debug, Default)]
pub(super) struct WishSlot(Option<Arc<Wish>>);

impl WishSlot {
    /// Runs `f`, a poll, in which dials may begin.
    pub(super) fn scope<R>(&mut self, f: impl FnOnce() -> R) -> R {
        struct Back<'a>(&'a mut WishSlot, Option<WishSlot>);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                let outer = self.1.take();
                let inner = CURRENT.try_with(|current| current.replace(outer)).ok().flatten();
                *self.0 = inner.unwrap_or_default();
            }
        }
        let outer = CURRENT.with(|current| current.replace(Some(std::mem::take(self))));
        let _back = Back(self, outer);
        f()
    }

    /// The exchange has a connection, or wants none any more.
    pub(super) fn is_over(&mut self) {
        if let Some(wish) = self.0.take() {
            wish.over.cancel();
            // Outside the lock: what is idle now may have to be closed.
            let made = wish.made().take();
            drop(made);
        }
    }
}

impl Drop for WishSlot {
    fn drop(&mut self) {
        self.is_over();
    }
}

impl Wish {
    /// That of the exchange in whose poll we are.
    pub(super) fn current() -> Option<Arc<Wish>> {
        CURRENT.with(|current| {
            let mut current = current.borrow_mut();
            let slot = current.as_mut()?;
            Some(slot.0.get_or_insert_with(Wish::begin).clone())
        })
    }

    fn begin() -> Arc<Self> {
        Arc::new(Wish { made: Mutex::new(Some(Vec::new())), over: CancellationToken::new() })
    }

    /// Resolves when nobody waits for the dial any more.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// A connection was made.
    pub(super) fn made_one(&self, lease: Lease) {
        let unwanted = match self.made().as_mut() {
            Some(made) => {
                made.push(lease);
                None
            }
            None => Some(lease),
        };
        drop(unwanted);
    }

    fn made(&self) -> MutexGuard<'_, Option<Vec<Lease>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
