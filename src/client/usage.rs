//! Which connection an exchange uses, and what it wants of the dials that it begins.
//!
//! hyper-util's pool lets a request race its own dial against connections that others give back. A connection that
//! was made for a request is not idle before that request had a chance to take it; and a dial that lost is left to
//! itself: it must not wait for a turn that nobody needs any more.
//!
//! Connectors are called, and connections chosen, within the poll of the exchange that they are for: a thread-local
//! for the time of that poll says which one that is.

use super::control::{Control, Lease};
use crate::sink::CurrentRequest;
use std::{
    cell::RefCell,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio_util::sync::CancellationToken;

thread_local! {
    /// Of the exchange in whose poll we are.
    static CURRENT: RefCell<Option<Usage>> = const { RefCell::new(None) };
}

/// Belongs to an exchange.
#[derive(Debug)]
pub(super) struct Usage {
    lease: Option<Lease>,
    current: CurrentRequest,
    /// Made only when it dials; gone when it has a connection.
    wish: Option<Arc<Wish>>,
}

impl Usage {
    pub(super) fn new(current: CurrentRequest) -> Self {
        Usage { lease: None, current, wish: None }
    }

    /// The use of the connection that it has.
    pub(super) fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    pub(super) fn into_lease(mut self) -> Option<Lease> {
        self.lease.take()
    }

    /// Polls `f` on behalf of the exchange with this usage.
    pub(super) fn scope<R>(usage: &mut Option<Usage>, f: impl FnOnce() -> R) -> R {
        struct Back<'a>(&'a mut Option<Usage>, Option<Usage>);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                let outer = self.1.take();
                *self.0 = CURRENT.try_with(|current| current.replace(outer)).ok().flatten();
            }
        }
        let outer = CURRENT.with(|current| current.replace(usage.take()));
        let _back = Back(usage, outer);
        f()
    }

    /// The client has chosen a connection for the exchange in whose poll we are, if we are in one. It may choose
    /// again when that one turns out stale.
    pub(super) fn chosen(control: &Arc<Control>) {
        let before = CURRENT.try_with(|current| {
            let mut current = current.borrow_mut();
            let usage = current.as_mut()?;
            if usage.lease.as_ref().is_some_and(|lease| lease.is_of(control)) {
                return None;
            }
            if let Some(conn) = control.conn() {
                usage.current.acquired(conn);
            }
            // Before the connection is seen to be in use: a dial that waits for it must not go on then.
            if let Some(wish) = &usage.wish {
                wish.over.cancel();
            }
            Some((usage.lease.replace(Lease::new(control.clone())), usage.wish.take()))
        });
        // Only now, as connections that are idle with this may have to be closed.
        if let Ok(Some((_, Some(wish)))) = before {
            wish.is_over();
        }
    }
}

impl Drop for Usage {
    fn drop(&mut self) {
        if let Some(wish) = self.wish.take() {
            wish.is_over();
        }
    }
}

/// Shared by an exchange that has no connection yet and the dials that it began.
#[derive(Debug)]
pub(super) struct Wish {
    /// Connections made for the exchange; `None` when it wants none any more.
    made: Mutex<Option<Vec<Lease>>>,
    over: CancellationToken,
}

impl Wish {
    /// That of the exchange in whose poll we are.
    pub(super) fn current() -> Option<Arc<Self>> {
        let begin = || Arc::new(Wish { made: Mutex::new(Some(Vec::new())), over: CancellationToken::new() });
        CURRENT.with(|current| {
            let mut current = current.borrow_mut();
            Some(current.as_mut()?.wish.get_or_insert_with(begin).clone())
        })
    }

    /// Resolves when nobody waits for the dial any more.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// A connection was made: it is in use until the exchange has one.
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

    fn is_over(&self) {
        self.over.cancel();
        let made = self.made().take();
        drop(made);
    }

    fn made(&self) -> MutexGuard<'_, Option<Vec<Lease>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
