//! What hyper-util's pool leaves out: limits over all hosts, limits of connections in use, and an end.
//!
//! The pool keeps connections by host and knows nothing of their number. Here every connection has a
//! [`Control`], through which it can be told to close; exchanges hold [`Lease`]s, so that it is known which
//! connections are idle and since when.

use super::{
    control::{Control, Lease},
    tasks::Tasks,
    usage::Wish,
};
use crate::{record::EndReason, sink::ConnRef};
use http::{Uri, uri::Authority};
use std::{
    collections::HashMap,
    error::Error,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub(super) max_idle: Option<usize>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_per_host: Option<usize>,
    /// How many idle connections to one host the pool keeps.
    pub(super) max_idle_per_host: Option<usize>,
}

/// The connections of one client.
#[derive(Debug)]
pub(super) struct Connections {
    limits: Limits,
    hosts: Mutex<HashMap<String, Arc<Semaphore>>>,
    open: Mutex<Open>,
    pub(super) closed: CancellationToken,
    tasks: Tasks,
}

#[derive(Debug, Default)]
struct Open {
    controls: Vec<Arc<Control>>,
    /// Closes what was idle for too long; there is one only while something is idle.
    reaper: Option<AbortHandle>,
    /// Where connections were made last. Leases may be dropped anywhere, also outside of it.
    runtime: Option<Handle>,
}

impl Connections {
    pub(super) fn new(limits: Limits, tasks: Tasks) -> Arc<Self> {
        Arc::new(Connections {
            limits,
            hosts: Mutex::default(),
            open: Mutex::default(),
            closed: CancellationToken::new(),
            tasks,
        })
    }

    /// Waits until another connection to the host is needed and allowed, as long as it is wished for.
    pub(super) async fn admit(
        &self,
        host: &str,
        wish: Option<&Wish>,
    ) -> Result<Option<OwnedSemaphorePermit>, NotNeeded> {
        let over = async {
            match wish {
                Some(wish) => wish.over().await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(over);
        tokio::select! {
            biased;
            () = &mut over => return Err(NotNeeded),
            () = self.none_comes_back(host) => {}
        }
        let Some(limit) = self.limits.max_per_host else { return Ok(None) };
        tokio::select! {
            biased;
            permit = self.host(host, limit).acquire_owned() => Ok(permit.ok()),
            () = over => Err(NotNeeded),
        }
    }

    /// The pool gets a connection back a little later than the reader of its last response has come to the end. To
    /// dial for whoever asks in between would be a waste: one request after the other would have two connections.
    /// Returns when there is no such connection, or it takes too long: the pool may not want it any more.
    async fn none_comes_back(&self, host: &str) {
        const LOOKS: usize = 5;
        const BETWEEN: Duration = Duration::from_millis(1);
        if self.limits.max_idle_per_host == Some(0) {
            return;
        }
        for _ in 0..LOOKS {
            if !self.open().controls.iter().any(|control| control.is_free(host)) {
                return;
            }
            tokio::time::sleep(BETWEEN).await;
        }
    }

    /// Forgets the hosts that have no connection and nobody who waits for one.
    fn host(&self, key: &str, limit: usize) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|known, host| {
            *known == key || Arc::strong_count(host) > 1 || host.available_permits() < limit
        });
        hosts.entry(key.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(limit))).clone()
    }

    /// A connection was made. It is idle when the lease is dropped.
    pub(super) fn opened(self: &Arc<Self>, host: String, conn: Option<ConnRef>) -> Lease {
        let watched = self.limits.max_idle.is_some() || self.limits.idle_timeout.is_some();
        let lease = Lease::of_new(host, conn, Arc::downgrade(self), watched);
        let mut open = self.open();
        if let Ok(runtime) = Handle::try_current() {
            open.runtime = Some(runtime);
        }
        open.controls.push(lease.control().clone());
        if self.closed.is_cancelled() {
            lease.control().close();
        }
        lease
    }

    /// What the pool takes for the same host.
    pub(super) fn host_of(uri: &Uri) -> String {
        let authority = uri.authority().map_or("", Authority::as_str);
        format!("{}://{authority}", uri.scheme_str().unwrap_or_default())
    }

    pub(super) fn gone(&self, control: &Arc<Control>) {
        self.open().controls.retain(|known| !Arc::ptr_eq(known, control));
    }

    /// Closes all that no exchange uses.
    pub(super) fn close_idle(&self) {
        for (control, _) in idle(&self.open()) {
            control.close_idle(EndReason::Closed);
        }
    }

    /// Closes everything. Returns when nothing is left.
    pub(super) async fn close(&self) {
        /// For connections to notice by themselves, so that their requests fail as closed by the client.
        const GRACE: Duration = Duration::from_millis(100);
        self.closed.cancel();
        {
            let mut open = self.open();
            open.reaper.take().inspect(AbortHandle::abort);
            open.controls.iter().for_each(|control| control.close());
        }
        if !self.tasks.are_done_within(GRACE).await {
            // A connection whose response nobody reads does not look at its socket.
            self.tasks.stop();
            self.open().controls.iter().for_each(|control| control.wake());
            self.tasks.are_done().await;
        }
    }

    /// A connection became idle: keeps the limits.
    pub(super) fn became_idle(self: &Arc<Self>) {
        let mut open = self.open();
        if let Some(max) = self.limits.max_idle {
            let mut idle = idle(&open);
            idle.sort_by_key(|(_, since)| *since);
            let excess = idle.len().saturating_sub(max);
            idle[..excess].iter().for_each(|(control, _)| control.close_idle(EndReason::IdleLimit));
        }
        if let Some(timeout) = self.limits.idle_timeout
            && !self.closed.is_cancelled()
            && open.reaper.as_ref().is_none_or(AbortHandle::is_finished)
            && let Some(runtime) = &open.runtime
        {
            open.reaper = Some(self.tasks.spawn_on(reap(Arc::downgrade(self), timeout), runtime));
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.open().reaper.take().inspect(AbortHandle::abort);
    }
}

fn idle(open: &Open) -> Vec<(Arc<Control>, Instant)> {
    open.controls.iter().filter_map(|control| Some((control.clone(), control.idle_since()?))).collect()
}

/// Sleeps until the connection that has been idle longest has been so for too long; ends when none is.
async fn reap(connections: Weak<Connections>, timeout: Duration) {
    loop {
        let next = {
            let Some(connections) = connections.upgrade() else { return };
            let mut open = connections.open();
            let now = Instant::now();
            let (late, waiting): (Vec<_>, Vec<_>) =
                idle(&open).into_iter().partition(|(_, since)| now >= *since + timeout);
            late.iter().for_each(|(control, _)| control.close_idle(EndReason::IdleLimit));
            let next = waiting.iter().map(|(_, since)| *since + timeout).min();
            if next.is_none() {
                // Under the lock: whoever becomes idle after this starts another reaper.
                open.reaper = None;
            }
            next
        };
        match next {
            Some(next) => tokio::time::sleep_until(next).await,
            None => return,
        }
    }
}

/// The dial was given up while it waited for its turn: the request got another connection.
#[derive(Debug)]
pub(super) struct NotNeeded;

impl fmt::Display for NotNeeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another connection serves the request")
    }
}

impl Error for NotNeeded {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::control::Command;

    fn connections(limits: Limits) -> Arc<Connections> {
        Connections::new(limits, Tasks::default())
    }

    #[tokio::test]
    async fn hosts_without_connections_are_forgotten() {
        let connections = connections(Limits { max_per_host: Some(1), ..Limits::default() });
        let kept = connections.admit("http://kept.test", None).await.unwrap();
        for i in 0..100 {
            drop(connections.admit(&format!("http://{i}.test"), None).await.unwrap());
        }
        let hosts = connections.hosts.lock().unwrap().len();
        assert!(hosts <= 2, "{hosts}");
        assert!(connections.hosts.lock().unwrap().contains_key("http://kept.test"));
        drop(kept);
    }

    #[test]
    fn leases_may_end_outside_of_the_runtime() {
        let limits = Limits { idle_timeout: Some(Duration::from_secs(90)), ..Limits::default() };
        let connections = connections(limits);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let lease = runtime.block_on(async { connections.opened(String::new(), None) });
        let control = lease.control().clone();
        drop(lease);
        assert_eq!(control.command(), Command::Run);
        runtime.block_on(async { tokio::time::sleep(Duration::from_secs(91)).await });
        assert_eq!(control.command(), Command::EndIfIdle);
    }

    /// A runtime that is gone cannot look after anything; the next one does.
    #[test]
    fn the_runtime_may_change() {
        let limits = Limits { idle_timeout: Some(Duration::ZERO), ..Limits::default() };
        let connections = connections(limits);
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let lease = runtime().block_on(async { connections.opened(String::new(), None) });
        drop(lease);
        let second = runtime();
        let lease = second.block_on(async { connections.opened(String::new(), None) });
        let control = lease.control().clone();
        drop(lease);
        second.block_on(async {
            while control.command() == Command::Run {
                tokio::task::yield_now().await;
            }
        });
    }
}
