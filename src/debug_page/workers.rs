//! The threads on which pages are put together.
//!
//! A page of a full sink takes up to some 100 ms, for which a task must not block its thread. Threads instead of tokio's
//! blocking tasks work in every runtime.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

/// The maximum number of pages that are put together at the same time.
const MAX_ACTIVE: usize = 4;

/// Starts threads, up to a number. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Workers(Arc<AtomicUsize>);

impl Workers {
    /// Runs a job on a thread of its own.
    ///
    /// # Errors
    ///
    /// Fails if too many jobs are running, or no thread can be started.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let permit = Permit(self.0.clone());
        if permit.0.fetch_add(1, Relaxed) >= MAX_ACTIVE {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let work = move || {
            let _permit = permit;
            job();
        };
        thread::Builder::new().name("nettrace-page".into()).spawn(work).map(drop)
    }
}

/// A running job, which is counted until this is dropped.
struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn only_some_jobs_run_at_the_same_time() {
        let workers = Workers::default();
        let (go, wait) = mpsc::channel::<()>();
        let wait = Arc::new(std::sync::Mutex::new(wait));
        let (done, ended) = mpsc::channel();
        for _ in 0..MAX_ACTIVE {
            let (wait, done) = (wait.clone(), done.clone());
            workers
                .run(move || {
                    let _ = wait.lock().unwrap().recv();
                    done.send(()).unwrap();
                })
                .unwrap();
        }
        assert_eq!(workers.run(|| {}).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(go);
        (0..MAX_ACTIVE).for_each(|_| ended.recv().unwrap());
        while workers.run(|| {}).is_err() {
            thread::yield_now();
        }
    }
}
