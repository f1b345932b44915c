//! The handles by which connections can be told to fail.

use crate::{record::EndReason, sink::ConnRef};
use hyper_util::client::legacy::connect::Connected;
use pin_project_lite::pin_project;
use slab::Slab;
use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};
use tokio::runtime::Handle;

/// Of one connection, shared by its task, its stream, and whoever uses it.
pub(super) struct Control {
    /// Of its place among those that are open: the number of one that is closed is given to another.
    pub(super) number: usize,
    /// As its connector described it.
    pub(super) connected: Connected,
    /// As the trace knows it.
    pub(super) conn: Option<ConnRef>,
    /// Where its task runs: what is left to do for it may fall to somebody outside of any runtime.
    pub(super) runtime: Handle,
    failing: AtomicBool,
    /// Of its task. The waker of a spawned task is the same in all its polls.
    waker: OnceLock<Waker>,
}

impl Control {
    /// Why it is about to be closed.
    pub(super) fn will_close(&self, reason: EndReason) {
        if let Some(conn) = &self.conn {
            conn.will_close(reason);
        }
    }

    /// Whether its stream is to fail, as the client is closed.
    #[inline]
    pub(super) fn is_failing(&self) -> bool {
        self.failing.load(Relaxed)
    }

    /// Its task is being polled.
    #[inline]
    pub(super) fn watch(&self, waker: &Waker) {
        self.waker.get_or_init(|| waker.clone());
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("conn", &self.conn).finish_non_exhaustive()
    }
}

/// Of the connections whose tasks run.
#[derive(Default)]
pub(super) struct Controls(Mutex<Open>);

#[derive(Default)]
struct Open {
    controls: Slab<Arc<Control>>,
    failing: bool,
}

impl Controls {
    /// A connection was made. It fails at once when that came too late.
    pub(super) fn add(self: &Arc<Self>, connected: Connected, conn: Option<ConnRef>) -> Registered {
        let mut open = self.open();
        let failing = open.failing;
        let place = open.controls.vacant_entry();
        let control = Arc::new(Control {
            number: place.key(),
            connected,
            conn,
            runtime: Handle::current(),
            failing: AtomicBool::new(failing),
            waker: OnceLock::new(),
        });
        place.insert(control.clone());
        Registered { control, controls: self.clone() }
    }

    /// Has all streams fail, those to come included.
    pub(super) fn fail_all(&self) {
        let controls: Vec<_> = {
            let mut open = self.open();
            open.failing = true;
            open.all()
        };
        for control in controls {
            control.will_close(EndReason::Closed);
            control.failing.store(true, Relaxed);
            control.wake();
        }
    }

    /// Has all tasks run once more.
    pub(super) fn wake_all(&self) {
        let controls: Vec<_> = self.open().all();
        controls.iter().for_each(|control| control.wake());
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn all(&self) -> Vec<Arc<Control>> {
        self.controls.iter().map(|(_, control)| control.clone()).collect()
    }
}

/// Goes with the task of a connection.
pub(super) struct Registered {
    pub(super) control: Arc<Control>,
    controls: Arc<Controls>,
}

impl Registered {
    /// The task of the connection.
    pub(super) fn run<F: Future<Output = ()>>(self, task: F) -> Run<F> {
        Run { task, registered: self }
    }
}

pin_project! {
    /// See [`Registered::run`].
    pub(super) struct Run<F> {
        #[pin]
        task: F,
        registered: Registered,
    }
}

impl<F: Future<Output = ()>> Future for Run<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        this.registered.control.watch(cx.waker());
        this.task.poll(cx)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.controls.open().controls.remove(self.control.number);
    }
}
