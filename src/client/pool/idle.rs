//! Limits on connections that nobody uses.

use super::{Pool, host::Host};
use crate::record::EndReason;
use std::{
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::{runtime::Handle, task::AbortHandle, time::Instant};

/// Closes what was idle for too long; it runs only while something is idle.
#[derive(Default)]
pub(super) struct Reaper {
    task: Option<AbortHandle>,
}

impl Reaper {
    pub(super) fn stop(&mut self) {
        self.task.take().inspect(AbortHandle::abort);
    }
}

impl Pool {
    /// A connection of that runtime became idle, perhaps outside of any: keeps the limits.
    pub(super) fn became_idle(self: &Arc<Self>, runtime: &Handle) {
        let limits = &self.settings.limits;
        if let Some(max) = limits.max_idle {
            self.close_excess(max);
        }
        if let Some(timeout) = limits.idle_timeout.filter(|_| !self.is_closed()) {
            let mut reaper = self.reaper();
            if reaper.task.as_ref().is_none_or(AbortHandle::is_finished) {
                let task = reap(Arc::downgrade(self), timeout);
                reaper.task = Some(self.tasks.spawn_on(task, runtime));
            }
        }
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
}

/// Sleeps until the connection that has been idle longest has been so for too long; ends when none is.
async fn reap(pool: Weak<Pool>, timeout: Duration) {
    loop {
        let next = {
            let Some(pool) = pool.upgrade() else { return };
            // Under the lock: whoever becomes idle after this starts another reaper.
            let mut reaper = pool.reaper();
            let now = Instant::now();
            for host in pool.all_hosts() {
                host.close_idle(EndReason::IdleLimit, |since| now >= since + timeout);
            }
            let next = pool.idle().iter().map(|(since, _)| *since + timeout).min();
            if next.is_none() {
                reaper.task = None;
            }
            next
        };
        match next {
            Some(next) => tokio::time::sleep_until(next).await,
            None => return,
        }
    }
}
