//! Futures on a thread and a runtime of their own, so that a server works beside any test, with the
//! clock paused or without a runtime, and answers while the test's thread is busy.

use std::panic;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::lab::Ns;

/// A future running on a thread of its own until this is dropped; tasks that it spawns with
/// `spawn_local` end with it.
pub struct Background {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Makes the future on a new thread inside the namespace and runs it there.
    pub fn start<F>(ns: &Ns, make: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let thread = ns.spawn(move || {
            LocalSet::new().block_on(&runtime(), async {
                tokio::select! {
                    biased; // a panic that is due comes before the end
                    () = make() => {}
                    _ = stopped => {}
                }
            });
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }

    /// Waits until the future has come to its end by itself.
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

/// The future's output if it comes in time by the real clock: tokio's may be paused by the test.
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

/// A runtime that lives on the calling thread alone.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
