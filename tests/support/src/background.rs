//! Runs futures on threads and runtimes of their own. A server then also works for a test that pauses tokio's clock,
//! has no runtime, or keeps its thread busy.

use std::panic;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::lab::Ns;

/// A future that runs on a thread of its own until this is dropped. Tasks that it spawns with `spawn_local` end with
/// it.
pub struct Background {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Creates the future on a new thread inside the namespace, and runs it there.
    pub fn start<F>(ns: &Ns, make: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let thread = ns.spawn(move || {
            LocalSet::new().block_on(&runtime(), async {
                tokio::select! {
                    biased; // polls the future first, so that its panic is not lost
                    () = make() => {}
                    _ = stopped => {}
                }
            });
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }

    /// Waits until the future is complete.
    pub fn join(mut self) {
        if let Err(panicked) = self.thread.take().expect("joined once").join() {
            panic::resume_unwind(panicked);
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        let result = self.thread.take().map(JoinHandle::join);
        if let Some(Err(panicked)) = result
            && !thread::panicking()
        {
            panic::resume_unwind(panicked);
        }
    }
}

/// Returns the output of the future, or `None` if it takes longer than `time`. Uses the system's clock, because the
/// test may have paused tokio's.
pub async fn within<F: Future>(time: Duration, future: F) -> Option<F::Output> {
    let (expire, expired) = oneshot::channel::<()>();
    let (_done, waiting) = mpsc::channel::<()>();
    thread::spawn(move || {
        _ = waiting.recv_timeout(time); // ends early when `_done` is dropped
        drop(expire);
    });
    tokio::select! {
        biased;
        output = future => Some(output),
        _ = expired => None,
    }
}

/// Creates a current-thread runtime.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
