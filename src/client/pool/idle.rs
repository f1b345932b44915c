//! Limits on connections that nobody uses.

use super::{Pool, host::Host};
use crate::record::EndReason;
use std::{
    sync::{
        Arc, Weak,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};
use tokio::{runtime::Handle, time::Instant};

/// How many connections of all hosts are idle.
#[derive(Debug, Default)]
pub(super) struct IdleCount(AtomicUsize);

impl IdleCount {
    pub(super) fn get(&self) -> usize {
        self.0.load(Relaxed)
    }

    /// One host had `before`, and has `now`.
    #[inline]
    pub(super) fn change(&self, before: usize, now: usize) {
        if now != before {
            self.0.fetch_add(now.wrapping_sub(before), Relaxed); // wraps around where there are fewer
        }
    }
}

/// Whether a reaper runs. Asked for by each connection that becomes idle, without a lock.
#[derive(Debug, Default)]
pub(super) struct Reaping(AtomicBool);

impl Reaping {
    /// Returns `true` for the one who is to start the reaper.
    fn begin(&self) -> bool {
        !self.0.load(Acquire) && !self.0.swap(true, AcqRel)
    }

    fn end(&self) {
        self.0.store(false, Release);
    }
}

/// Goes with the task of a reaper, which may end with its runtime.
struct ReapingGuard {
    pool: Weak<Pool>,
    is_on: bool,
}

impl ReapingGuard {
    fn end(&mut self, pool: &Pool) {
        self.is_on = false;
        pool.reaping.end();
    }

    fn begin_again(&mut self, pool: &Pool) -> bool {
        self.is_on = pool.reaping.begin();
        self.is_on
    }
}

impl Drop for ReapingGuard {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade().filter(|_| self.is_on) {
            pool.reaping.end();
        }
    }
}

impl Pool {
    /// A connection of that runtime became idle, perhaps outside of any: keeps the limits.
    pub(super) fn became_idle(self: &Arc<Self>, runtime: &Handle) {
        let limits = &self.config.limits;
        if let Some(max) = limits.max_idle
            && self.idle_count.get() > max
        {
            self.close_excess(max);
        }
        if let Some(timeout) = limits.idle_timeout
            && !self.is_closed()
            && self.reaping.begin()
        {
            self.start_reaper(timeout, runtime);
        }
    }

    /// Starts the task that closes connections which have been idle for `timeout`. It ends when nothing is idle any
    /// more, or when the pool is closed, even if that happened just before the start.
    pub(super) fn start_reaper(self: &Arc<Self>, timeout: Duration, runtime: &Handle) {
        let first = Instant::now().checked_add(timeout);
        let task = reap(ReapingGuard { pool: Arc::downgrade(self), is_on: true }, first, timeout);
        let closing = self.closing.clone();
        let task = async move {
            let _ = closing.run_until_cancelled(task).await; // either end will do
        };
        self.tasks.spawn_on(task, runtime);
    }

    /// Those that have been idle for the longest go.
    fn close_excess(&self, max: usize) {
        let mut idle = self.idle();
        let excess = idle.len().saturating_sub(max);
        if excess == 0 {
            return;
        }
        idle.sort_by_key(|(since, _)| *since);
        for (since, host) in &idle[..excess] {
            let mut is_first = true; // of those that became so at the same time
            host.close_idle(EndReason::IdleLimit, |idle| idle == *since && std::mem::take(&mut is_first));
        }
    }

    /// All that are idle, and since when.
    fn idle(&self) -> Vec<(Instant, Arc<Host>)> {
        let hosts = self.all_hosts();
        hosts.iter().flat_map(|host| host.idle().into_iter().map(|since| (since, host.clone()))).collect()
    }

    /// Closes what has been idle for too long. Returns when the next will have been.
    fn close_overdue(&self, timeout: Duration) -> Option<Instant> {
        let now = Instant::now();
        for host in self.all_hosts() {
            host.close_idle(EndReason::IdleLimit, |since| now.saturating_duration_since(since) >= timeout);
        }
        self.idle().iter().filter_map(|(since, _)| since.checked_add(timeout)).min()
    }
}

/// Sleeps until the connection that has been idle longest has been so for too long. Does not look at connections
/// before `next`, as one that is used again and again is seldom idle when a task gets to run.
async fn reap(mut guard: ReapingGuard, mut next: Option<Instant>, timeout: Duration) {
    while let Some(at) = next {
        tokio::time::sleep_until(at).await;
        let Some(pool) = guard.pool.upgrade() else { return };
        next = pool.close_overdue(timeout).or_else(|| {
            // Whoever becomes idle after this starts another reaper; whoever did so just before is seen now.
            guard.end(&pool);
            pool.close_overdue(timeout).filter(|_| guard.begin_again(&pool))
        });
    }
}
