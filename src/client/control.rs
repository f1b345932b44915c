//! One connection of the client: who uses it, and whether it is to close.

use super::pool::Connections;
use crate::{record::EndReason, sink::ConnRef};
use futures_util::task::AtomicWaker;
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{
            AtomicU8,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    task::Waker,
};
use tokio::time::Instant;

/// The handle by which one connection is told to close.
pub(super) struct Control {
    /// Where it leads, as [`Connections`] names hosts.
    host: String,
    conn: Option<ConnRef>,
    command: AtomicU8,
    waker: AtomicWaker,
    usage: Mutex<Usage>,
    connections: Weak<Connections>,
    /// Whether anybody has to know at once when it becomes idle.
    watched: bool,
}

#[derive(Debug)]
struct Usage {
    exchanges: usize,
    idle_since: Instant,
    /// Why it is to close when it is idle.
    reason: Option<EndReason>,
}

const RUN: u8 = 0;
const CLOSE_IDLE: u8 = 1;
const ENDED: u8 = 2;
const CLOSE: u8 = 3;

/// What a connection is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Run,
    /// End if nobody uses it.
    EndIfIdle,
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

    #[inline]
    pub(super) fn command(&self) -> Command {
        match self.command.load(Acquire) {
            RUN => Command::Run,
            CLOSE_IDLE => Command::EndIfIdle,
            ENDED => Command::End,
            _ => Command::Fail,
        }
    }

    /// Has the connection's task look at the command when it changes.
    pub(super) fn watch(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Has the connection's task run once more.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake_by_ref();
            self.waker.register(&waker);
        }
    }

    /// Closes it unless an exchange is quicker.
    pub(super) fn close_idle(&self, reason: EndReason) {
        self.usage().reason = Some(reason);
        if self.command.compare_exchange(RUN, CLOSE_IDLE, AcqRel, Relaxed).is_ok() {
            self.wake();
        }
    }

    /// Closes it, whoever uses it.
    pub(super) fn close(&self) {
        if let Some(conn) = &self.conn {
            conn.will_close(EndReason::Closed);
        }
        self.command.store(CLOSE, Release);
        self.wake();
    }

    /// Told to end since nobody used it: does so if that is true still, else the command is taken back. An exchange
    /// may have been given the connection in the meantime, and what it sent must not go unanswered.
    pub(super) fn end_if_idle(&self) -> bool {
        let mut usage = self.usage();
        let next = if usage.exchanges == 0 { ENDED } else { RUN };
        let _ = self.command.compare_exchange(CLOSE_IDLE, next, AcqRel, Relaxed);
        if next == ENDED
            && let (Some(conn), Some(reason)) = (&self.conn, usage.reason.take())
        {
            conn.will_close(reason);
        }
        next == ENDED
    }

    /// Since when nobody uses it.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let usage = self.usage();
        (usage.exchanges == 0 && self.command() == Command::Run).then_some(usage.idle_since)
    }

    /// Whether it leads to that host and nobody uses it.
    pub(super) fn is_free(&self, host: &str) -> bool {
        self.host == host && self.command() == Command::Run && self.usage().exchanges == 0
    }

    /// The connection is closed.
    pub(super) fn gone(self: &Arc<Self>) {
        if let Some(connections) = self.connections.upgrade() {
            connections.gone(self);
        }
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("conn", &self.conn).field("command", &self.command()).finish()
    }
}

/// The connection is in use; the drop of the last one makes it idle.
#[derive(Debug)]
pub(super) struct Lease(Arc<Control>);

impl Lease {
    /// Of a new connection, by the one that it was made for.
    pub(super) fn of_new(
        host: String,
        conn: Option<ConnRef>,
        connections: Weak<Connections>,
        watched: bool,
    ) -> Self {
        let usage = Usage { exchanges: 1, idle_since: Instant::now(), reason: None };
        Lease(Arc::new(Control {
            host,
            conn,
            command: AtomicU8::new(RUN),
            waker: AtomicWaker::new(),
            usage: Mutex::new(usage),
            connections,
            watched,
        }))
    }

    pub(super) fn new(control: Arc<Control>) -> Self {
        control.usage().exchanges += 1;
        Lease(control)
    }

    pub(super) fn control(&self) -> &Arc<Control> {
        &self.0
    }

    pub(super) fn is_of(&self, control: &Arc<Control>) -> bool {
        Arc::ptr_eq(&self.0, control)
    }

    /// Whether the client was closed, and the connection fails for that.
    pub(super) fn client_closed(&self) -> bool {
        self.0.command() == Command::Fail
    }

    /// The connection became another protocol's: it is never idle again.
    pub(super) fn for_good(self) {
        self.0.usage().exchanges += 1;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let control = &self.0;
        let mut usage = control.usage();
        usage.exchanges -= 1;
        if usage.exchanges > 0 || !control.watched {
            return;
        }
        usage.idle_since = Instant::now();
        drop(usage);
        if let Some(connections) = control.connections.upgrade() {
            connections.became_idle();
        }
    }
}
