//! The background tasks of a client, which [`Client::close`](super::Client::close) waits for.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// Spawns tasks, waits for them and stops them. All clones share their tasks.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    /// Read in every poll of a task of hyper's. A `CancellationToken` would take 39 instructions more there, and a lock
    /// that all these tasks share.
    stopped: Arc<AtomicBool>,
}

impl Tasks {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    pub(super) fn spawn_on(&self, task: impl Future<Output = ()> + Send + 'static, runtime: &Handle) {
        self.tracker.spawn_on(task, runtime);
    }

    /// Waits for all tasks, for at most `time`. Returns `true` if none is left. Tasks that begin meanwhile are waited
    /// for, too.
    pub(super) async fn wait_timeout(&self, time: Duration) -> bool {
        self.tracker.close();
        if self.tracker.is_empty() {
            return true;
        }
        // Outside of a runtime there is no timer.
        Handle::try_current().is_ok() && tokio::time::timeout(time, self.tracker.wait()).await.is_ok()
    }

    /// Waits for all tasks.
    pub(super) async fn wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Makes the tasks spawned through hyper's [`Executor`](hyper::rt::Executor) end after their next poll. Does not
    /// wake them. Tasks from [`spawn`](Self::spawn) and [`spawn_on`](Self::spawn_on) are not affected.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }
}

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    /// Boxes the task. hyper's tasks are some kilobytes, even the small one of each HTTP/2 request, and would otherwise
    /// be copied several times before they are spawned.
    fn execute(&self, task: F) {
        self.tracker.spawn(Stoppable { task: Box::pin(task), stopped: self.stopped.clone() });
    }
}

/// A task that ends after a poll if it is to stop.
struct Stoppable<F> {
    task: Pin<Box<F>>,
    stopped: Arc<AtomicBool>,
}

impl<F: Future> Future for Stoppable<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let done = self.task.as_mut().poll(cx).is_ready();
        if done || self.stopped.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    }
}
