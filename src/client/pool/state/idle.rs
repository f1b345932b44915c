//! The limits on idle connections: how long each may be idle, and how many may be.
//!
//! A connection that is idle for too long is closed by a timer of the driver. There is one for the whole pool, and only
//! while a connection is idle: the first to become idle adds [`Action::WakeAt`], and [`expire`](PoolState::expire)
//! returns when to look again.

use super::{
    Action, PoolState,
    conn_table::{Phase, Reusable},
    ids::ConnId,
};
use crate::{record::EndReason, sink::NotReused};
use tokio::time::Instant;

impl<Conn: Reusable, Waker: Clone> PoolState<Conn, Waker> {
    /// Closes the connections that have been idle for too long. Returns when to call this again. Returns `None` if no
    /// connection is idle; the next one that becomes idle adds a new [`WakeAt`](Action::WakeAt).
    pub(in crate::client::pool) fn expire(&mut self, now: Instant) -> Option<Instant> {
        let limits = self.limits;
        self.close_idle_if(NotReused::IdleTimeout, |since| limits.is_overdue(since, now));
        let first = self.conns.iter().filter_map(|(_, entry)| entry.phase.idle_since()).min();
        let next = first.zip(limits.idle_timeout).and_then(|(first, timeout)| first.checked_add(timeout));
        self.is_timed = next.is_some();
        next
    }

    /// The task that calls [`expire`](Self::expire) was dropped, with its runtime.
    pub(in crate::client::pool) fn timer_stopped(&mut self) {
        self.is_timed = false;
    }

    /// Closes all idle connections.
    pub(in crate::client::pool) fn close_idle(&mut self) {
        self.close_idle_if(NotReused::ClosedByProgram, |_| true);
    }

    /// Enforces the limits on idle connections, after another one has become idle.
    pub(super) fn became_idle(&mut self, id: ConnId, now: Instant) {
        while self.limits.max_idle.is_some_and(|max| self.idle > max)
            && let Some(oldest) = self.longest_idle()
        {
            self.close_conn(oldest, NotReused::IdleLimit);
        }
        if self.is_timed {
            return;
        }
        let at = self.limits.idle_timeout.and_then(|timeout| now.checked_add(timeout));
        let handle = self.conns.get_mut(id).and_then(|entry| entry.handle.clone());
        if let (Some(at), Some(handle)) = (at, handle) {
            self.is_timed = true;
            self.actions.push(Action::WakeAt(at, handle));
        }
    }

    /// Closes a connection that is idle.
    pub(super) fn close_conn(&mut self, id: ConnId, why: NotReused) {
        let reason = match why {
            NotReused::IdleTimeout | NotReused::IdleLimit => EndReason::IdleLimit,
            _ => EndReason::Closed,
        };
        self.will_be_lost(id, why);
        let Some(host) = self.conns.get_mut(id).map(|entry| entry.host) else { return };
        let host = &mut self.hosts[host.0];
        host.idle.retain(|idle| *idle != id);
        host.shared.take_if(|shared| *shared == id);
        if let Some(Phase::Idle { conn, .. } | Phase::Shared { conn, .. }) = self.enter(id, Phase::InUse) {
            self.actions.push(Action::Close(conn, reason));
        }
    }

    /// Returns the connection that has been idle longest.
    fn longest_idle(&self) -> Option<ConnId> {
        let idle = self.conns.iter().filter_map(|(id, entry)| Some((entry.phase.idle_since()?, id)));
        idle.min_by_key(|(since, _)| *since).map(|(_, id)| id)
    }

    /// Closes every idle connection for which `is_chosen` accepts the start of its idle time.
    fn close_idle_if(&mut self, why: NotReused, is_chosen: impl Fn(Instant) -> bool) {
        let idle = self.conns.iter().filter_map(|(id, entry)| Some((id, entry.phase.idle_since()?)));
        let chosen: Vec<_> = idle.filter(|(_, since)| is_chosen(*since)).map(|(id, _)| id).collect();
        for id in chosen {
            self.close_conn(id, why);
        }
    }
}
