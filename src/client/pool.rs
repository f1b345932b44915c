//! What hyper-util's pool leaves out: limits over all hosts, limits of connections in use, and an end.
//!
//! The pool keeps connections by host and knows nothing of their number. Here every connection has a
//! [`Control`], through which it can be told to close; exchanges hold [`Lease`]s, so that it is known which
//! connections are idle and since when.

use crate::{record::EndReason, sink::ConnRef};
use futures_util::task::AtomicWaker;
use http::Uri;
use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{
            AtomicU8,
            Ordering::{Acquire, Release},
        },
    },
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
}

/// The connections of one client.
#[derive(Debug)]
pub(super) struct Connections {
    limits: Limits,
    hosts: Mutex<HashMap<String, Arc<Semaphore>>>,
    open: Mutex<Open>,
    pub(super) closed: CancellationToken,
    /// Leases may be dropped anywhere, also outside of it.
    runtime: OnceLock<Handle>,
}

#[derive(Debug, Default)]
struct Open {
    controls: Vec<Arc<Control>>,
    /// Closes what was idle for too long; there is one only while something is idle.
    reaper: Option<AbortHandle>,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Connections {
            limits,
            hosts: Mutex::default(),
            open: Mutex::default(),
            closed: CancellationToken::new(),
            runtime: OnceLock::new(),
        })
    }

    /// Waits until another connection to the host is allowed.
    pub(super) async fn admit(&self, uri: &Uri) -> Option<OwnedSemaphorePermit> {
        let limit = self.limits.max_per_host?;
        let host = {
            let key = format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.authority()?);
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            hosts.retain(|known, host| {
                *known == key || Arc::strong_count(host) > 1 || host.available_permits() < limit
            });
            hosts.entry(key).or_insert_with(|| Arc::new(Semaphore::new(limit))).clone()
        };
        host.acquire_owned().await.ok()
    }

    /// A connection was made. It is idle until an exchange takes it.
    pub(super) fn opened(self: &Arc<Self>, conn: Option<ConnRef>) -> Arc<Control> {
        if let Ok(runtime) = Handle::try_current() {
            let _ = self.runtime.set(runtime);
        }
        let control = Arc::new(Control {
            conn,
            command: AtomicU8::new(RUN),
            waker: AtomicWaker::new(),
            usage: Mutex::new(Usage { exchanges: 0, idle_since: Instant::now() }),
            connections: Arc::downgrade(self),
        });
        let mut open = self.open();
        open.controls.push(control.clone());
        self.look_after(&mut open);
        control
    }

    fn gone(&self, control: &Arc<Control>) {
        self.open().controls.retain(|known| !Arc::ptr_eq(known, control));
    }

    /// Closes all that no exchange uses.
    pub(super) fn close_idle(&self) {
        for (control, _) in idle(&self.open()) {
            control.close(CLOSE_IDLE, EndReason::Closed);
        }
    }

    /// Closes everything.
    pub(super) fn close(&self) {
        self.closed.cancel();
        let mut open = self.open();
        open.reaper.take().inspect(AbortHandle::abort);
        open.controls.iter().for_each(|control| control.close(CLOSE, EndReason::Closed));
    }

    /// Something became idle: keeps the limits.
    fn look_after(self: &Arc<Self>, open: &mut Open) {
        if let Some(max) = self.limits.max_idle {
            let mut idle = idle(open);
            idle.sort_by_key(|(_, since)| *since);
            let excess = idle.len().saturating_sub(max);
            idle[..excess].iter().for_each(|(control, _)| control.close(CLOSE_IDLE, EndReason::IdleLimit));
        }
        if let Some(timeout) = self.limits.idle_timeout
            && open.reaper.as_ref().is_none_or(AbortHandle::is_finished)
            && let Some(runtime) = self.runtime.get()
        {
            open.reaper = Some(runtime.spawn(reap(Arc::downgrade(self), timeout)).abort_handle());
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
            late.iter().for_each(|(control, _)| control.close(CLOSE_IDLE, EndReason::IdleLimit));
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

/// The handle by which one connection is told to close.
pub(super) struct Control {
    conn: Option<ConnRef>,
    command: AtomicU8,
    waker: AtomicWaker,
    usage: Mutex<Usage>,
    connections: Weak<Connections>,
}

#[derive(Debug)]
struct Usage {
    exchanges: usize,
    idle_since: Instant,
}

const RUN: u8 = 0;
const CLOSE_IDLE: u8 = 1;
const CLOSE: u8 = 2;

/// What a connection is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Run,
    /// Behave as if the peer had closed.
    End,
    /// Fail: the client is closed.
    Fail,
}

impl Control {
    /// The connection as the trace knows it.
    pub(super) fn conn(&self) -> Option<&ConnRef> {
        self.conn.as_ref()
    }

    pub(super) fn command(&self) -> Command {
        match self.command.load(Acquire) {
            RUN => Command::Run,
            CLOSE_IDLE => Command::End,
            _ => Command::Fail,
        }
    }

    /// Has the connection's task look at the command when it changes.
    pub(super) fn watch(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    fn close(&self, command: u8, reason: EndReason) {
        if let Some(conn) = &self.conn {
            conn.will_close(reason);
        }
        self.command.fetch_max(command, Release);
        self.waker.wake();
    }

    fn idle_since(&self) -> Option<Instant> {
        let usage = self.usage();
        (usage.exchanges == 0 && self.command() == Command::Run).then_some(usage.idle_since)
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stream was dropped.
    pub(super) fn gone(self: &Arc<Self>) {
        if let Some(connections) = self.connections.upgrade() {
            connections.gone(self);
        }
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("conn", &self.conn).field("command", &self.command()).finish()
    }
}

/// An exchange uses the connection; its drop is the end of the use.
#[derive(Debug)]
pub(super) struct Lease(Arc<Control>);

impl Lease {
    pub(super) fn new(control: Arc<Control>) -> Self {
        control.usage().exchanges += 1;
        Lease(control)
    }

    pub(super) fn is_of(&self, control: &Arc<Control>) -> bool {
        Arc::ptr_eq(&self.0, control)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let idle = {
            let mut usage = self.0.usage();
            usage.exchanges -= 1;
            usage.idle_since = Instant::now();
            usage.exchanges == 0
        };
        if idle && let Some(connections) = self.0.connections.upgrade() {
            connections.look_after(&mut connections.open());
        }
    }
}
