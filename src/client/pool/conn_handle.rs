//! The handles by which connections can be told to fail.

use crate::client::informational::Interim;
use crate::{record::EndReason, sink::ConnRef};
use hyper_util::client::legacy::connect::Connected;
use slab::Slab;
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
    },
    task::Waker,
};
use tokio::runtime::Handle;

/// Of one connection, shared by its task, its stream, and whoever uses it.
pub(super) struct ConnHandle {
    /// As its connector described it.
    pub(super) connected: Connected,
    /// As the trace knows it.
    pub(super) conn: Option<ConnRef>,
    /// Where its task runs: what is left to do for it may fall to somebody outside of any runtime.
    pub(super) runtime: Handle,
    pub(super) interim: Interim,
    failing: AtomicBool,
    closed: AtomicBool,
    /// Of the task that reads from it. The waker of a spawned task is the same in all its polls.
    waker: OnceLock<Waker>,
}

impl ConnHandle {
    /// Why it is about to be closed.
    pub(super) fn will_close(&self, reason: EndReason) {
        if let Some(conn) = &self.conn {
            conn.set_close_reason(reason);
        }
    }

    /// Whether its stream is to fail, as the client is closed.
    #[inline]
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Relaxed)
    }

    /// Whether its stream is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// To be said under the lock of its host.
    pub(super) fn closed(&self) {
        self.closed.store(true, Relaxed);
    }

    /// Its stream is being read. To be called before [`is_failing`](Self::is_failing) is asked.
    #[inline]
    pub(super) fn watch(&self, waker: &Waker) {
        if self.waker.get().is_none() {
            let _ = self.waker.set(waker.clone());
            // With the one in `fail`: the reader sees that it is to fail, or is seen and woken.
            fence(SeqCst);
        }
    }

    fn fail(&self) {
        self.will_close(EndReason::Closed);
        self.failing.store(true, Relaxed);
        fence(SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

impl fmt::Debug for ConnHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnHandle").field("conn", &self.conn).finish_non_exhaustive()
    }
}

/// Of the connections whose tasks run.
#[derive(Default)]
pub(super) struct ConnRegistry(Mutex<Open>);

#[derive(Default)]
struct Open {
    registry: Slab<Arc<ConnHandle>>,
    failing: bool,
}

impl ConnRegistry {
    /// A connection was made. It fails at once when that came too late.
    pub(super) fn add(self: &Arc<Self>, connected: Connected, conn: Option<ConnRef>) -> Registered {
        let mut open = self.open();
        let failing = open.failing;
        let entry = open.registry.vacant_entry();
        let number = entry.key();
        let handle = Arc::new(ConnHandle {
            connected,
            conn,
            runtime: Handle::current(),
            interim: Interim::default(),
            failing: AtomicBool::new(failing),
            closed: AtomicBool::new(false),
            waker: OnceLock::new(),
        });
        entry.insert(handle.clone());
        Registered { handle, registry: self.clone(), number }
    }

    /// Has all streams fail, those to come included.
    pub(super) fn fail_all(&self) {
        let registry: Vec<_> = {
            let mut open = self.open();
            open.failing = true;
            open.all()
        };
        registry.iter().for_each(|handle| handle.fail());
    }

    /// Has all tasks run once more.
    pub(super) fn wake_all(&self) {
        let registry: Vec<_> = self.open().all();
        registry.iter().for_each(|handle| handle.wake());
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn all(&self) -> Vec<Arc<ConnHandle>> {
        self.registry.iter().map(|(_, handle)| handle.clone()).collect()
    }
}

/// Goes with the task of a connection.
pub(super) struct Registered {
    pub(super) handle: Arc<ConnHandle>,
    registry: Arc<ConnRegistry>,
    number: usize,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.open().registry.remove(self.number);
    }
}
