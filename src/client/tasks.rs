//! The tasks of a client's connections: they can be waited for, and stopped.

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

/// Where the tasks of connections run. All clones know of the same tasks.
#[derive(Clone, Debug, Default)]
pub(super) struct Tasks {
    tracker: TaskTracker,
    stopped: Arc<AtomicBool>,
}

impl Tasks {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    pub(super) fn spawn_on(&self, task: impl Future<Output = ()> + Send + 'static, runtime: &Handle) {
        self.tracker.spawn_on(task, runtime);
    }

    /// Whether there is none left in that time. No others are expected to begin.
    pub(super) async fn are_done_within(&self, time: Duration) -> bool {
        self.tracker.close();
        if self.tracker.is_empty() {
            return true;
        }
        // There is no timer outside a runtime.
        Handle::try_current().is_ok() && tokio::time::timeout(time, self.tracker.wait()).await.is_ok()
    }

    /// Resolves when there is none left.
    pub(super) async fn are_done(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Has every task end after its next poll.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }
}

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    /// In a box: hyper's tasks are some kilobytes, also the small one of each HTTP/2 request, and would be moved as a
    /// whole several times on their way.
    fn execute(&self, task: F) {
        self.tracker.spawn(Stoppable { task: Box::pin(task), stopped: self.stopped.clone() });
    }
}

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
