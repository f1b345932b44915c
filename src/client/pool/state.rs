//! The decisions of the pool, as a state machine without I/O.
//!
//! Each event is a method call. It may add [`Action`]s, which the caller takes with
//! [`take_actions`](PoolState::take_actions) and performs after it has released the lock.
//! [`PoolInner::with`](super::PoolInner::with) drives it.
//!
//! The machine reads no clock, wakes no task and drops no connection. The drop of a connection takes the pool's lock
//! again, so it would deadlock here: use [`Action::Discard`]. Without I/O, tests can run any order of events on plain
//! values.
//!
//! A connection counts against the limit from its permit to dial until its stream is closed. Meanwhile it is in one
//! [`Phase`]:
//!
//! | phase | event | next phase |
//! |---|---|---|
//! | `Dialing` | `connected` | `InUse` over HTTP/1, `Shared` over HTTP/2 |
//! | `InUse` | `lend`: its response is being read; only called if `max_per_host` is set | `Lent` |
//! | `InUse` | `returning`: its response was read, and it should be ready in a moment | `Returning` |
//! | `InUse`, `Returning` | `release`: it is ready | `InUse` of the first waiter, or `Idle` |
//! | `Returning` | `late`: it was not ready in a moment; `dropped`: it broke | `InUse` |
//! | `Lent` | `reclaim`: its response was read | `InUse` |
//! | `Lent` | `wait`: another exchange needs a connection | `InUse`, and released when ready |
//! | `Idle` | `checkout` | `InUse` |
//! | `Shared` | `checkout`, `dropped`: a stream more or less | `Shared`, idle without streams |
//! | `Idle`, idle `Shared` | `expire`, `close_idle`, or more than `max_idle` are idle | `InUse` until `closed` |
//! | `Shared` | `connected`: another one replaces it, and its streams go on | `InUse` until `closed` |
//! | any | `closed`: refused, timed out, cut off, or dropped | – |
//!
//! An exchange that finds no connection waits, with or without a permit to dial. It takes whichever comes first: the
//! connection that it dials, or one that another exchange releases.
//!
//! This file has the events. [`conn_table`] keeps the connections, [`wait_queue`] those that wait for one, and [`idle`]
//! enforces the limits on idle connections. [`reuse`] tells why there is none to reuse. [`ids`] are the identifiers that the driver passes back.
//!
//! The limit per host is a counter and not tokio's semaphore. A waiter is in the queue for connections anyway. With a
//! second queue, for permits, one exchange could get both while another one gets neither.

mod conn_table;
mod idle;
mod ids;
mod reuse;
mod wait_queue;

pub(super) use self::{
    conn_table::Reusable,
    ids::{ConnId, HostId, Loan, Ticket},
    wait_queue::Grant,
};

use self::{
    conn_table::{ConnTable, Entry, Phase},
    wait_queue::{WaitQueue, Waiter},
};
use crate::{
    record::EndReason,
    sink::{NotReused, PoolConnection, PoolWait},
};
use slab::Slab;
use std::{mem, task::Poll, time::Duration};
use tokio::time::Instant;

/// Limits on connections; `None` for no limit.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::client) struct Limits {
    /// Idle connections to all hosts together.
    pub(in crate::client) max_idle: Option<usize>,
    /// Idle connections to one host. With zero, no connection is used twice.
    pub(in crate::client) max_idle_per_host: Option<usize>,
    /// Connections to one host, those being dialed included.
    pub(in crate::client) max_per_host: Option<usize>,
    /// How long a connection may be idle.
    pub(in crate::client) idle_timeout: Option<Duration>,
}

impl Limits {
    /// Returns `true` if a connection that is idle since then is to be closed.
    fn is_overdue(&self, since: Instant, now: Instant) -> bool {
        self.idle_timeout.is_some_and(|timeout| now.saturating_duration_since(since) >= timeout)
    }
}

/// A consequence of an event, for the driver to perform.
#[derive(Debug, PartialEq)]
pub(super) enum Action<Conn: Reusable, Waker> {
    /// Wake a waiter, for which [`PoolState::poll`] has a grant.
    Wake(Waker),
    /// Finish the use of a connection: the waiter that it was granted to has left.
    Finish(Conn),
    /// Wait until the connection is ready, and release it then.
    AwaitReady(Conn),
    /// Record why the connection is closed, then drop it.
    Close(Conn, EndReason),
    /// Drop the connection without recording a reason.
    Discard(Conn),
    /// Make the stream of the connection fail.
    Fail(Conn::Handle),
    /// Call [`PoolState::expire`] at that time, from a task on the runtime of the connection.
    WakeAt(Instant, Conn::Handle),
}

/// The result of [`PoolState::wait`].
#[derive(Debug, PartialEq)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    /// The permit to dial that connection at once.
    pub(super) permit: Option<ConnId>,
    /// A connection should be ready in a moment. After that, call [`PoolState::grace_over`].
    pub(super) is_returning: bool,
    /// Why there was no connection to reuse.
    pub(super) reason: NotReused,
    /// The obstacle to dialing; `None` if the exchange may dial.
    pub(super) obstacle: Option<PoolWait>,
}

/// The connections of a client, and the exchanges that wait for one. `Conn` is a connection, and `Waker` wakes a
/// waiter.
pub(super) struct PoolState<Conn: Reusable, Waker> {
    limits: Limits,
    /// Whether connections are used more than once.
    keeps: bool,
    is_closed: bool,
    hosts: Slab<Host<Conn, Waker>>,
    conns: ConnTable<Conn>,
    /// The number of idle connections to all hosts.
    idle: usize,
    /// Whether a [`WakeAt`](Action::WakeAt) is outstanding.
    is_timed: bool,
    /// The source of tickets and loans.
    next_number: u64,
    actions: Vec<Action<Conn, Waker>>,
}

struct Host<Conn, Waker> {
    /// Whether one connection is dialed at a time, as all exchanges will share it.
    shares_dials: bool,
    /// Idle HTTP/1 connections. The one used last is at the end.
    idle: Vec<ConnId>,
    /// The connection that speaks HTTP/2.
    shared: Option<ConnId>,
    waiters: WaitQueue<Conn, Waker>,
    /// The number of connections in any phase.
    open: usize,
    /// The numbers of connections in a phase.
    dialing: usize,
    returning: usize,
    lent: usize,
    /// The number of connections that are about to be closed.
    lost: usize,
    /// Why there is no connection, as long as there is none but those.
    last_lost: NotReused,
}

impl<Conn: Reusable, Waker: Clone> PoolState<Conn, Waker> {
    pub(super) fn new(limits: Limits) -> Self {
        PoolState {
            limits,
            keeps: limits.max_idle_per_host != Some(0),
            is_closed: false,
            hosts: Slab::new(),
            conns: ConnTable::new(),
            idle: 0,
            is_timed: false,
            next_number: 0,
            actions: Vec::new(),
        }
    }

    /// Returns the actions that were added since the last call.
    #[inline]
    pub(super) fn take_actions(&mut self) -> Vec<Action<Conn, Waker>> {
        mem::take(&mut self.actions)
    }

    // Hosts

    /// Adds a host without connections. `reason` says why there is none to reuse.
    pub(super) fn add_host(&mut self, is_http2_only: bool, reason: NotReused) -> HostId {
        HostId(self.hosts.insert(Host {
            lost: 0,
            last_lost: reason,
            shares_dials: is_http2_only && self.keeps,
            idle: Vec::new(),
            shared: None,
            waiters: WaitQueue::new(),
            open: 0,
            dialing: 0,
            returning: 0,
            lent: 0,
        }))
    }

    /// Removes the host, and returns `true`, if it has neither connections nor waiters.
    pub(super) fn remove_host(&mut self, id: HostId) -> bool {
        let host = &self.hosts[id.0];
        let is_unused = host.open == 0 && host.waiters.is_empty();
        if is_unused {
            self.hosts.remove(id.0);
        }
        is_unused
    }

    // Exchanges that need a connection

    /// Returns a connection that can be used at once: the idle one that was used last, with the time for which it was
    /// idle, or a share of the one that speaks HTTP/2.
    pub(super) fn checkout(&mut self, host: HostId, now: Instant) -> Option<(Conn, PoolConnection)> {
        while let Some(id) = self.hosts[host.0].idle.pop() {
            let Some(Phase::Idle { conn, since }) = self.enter(id, Phase::InUse) else { continue };
            let (action, reason) = if !conn.is_ready() {
                (Action::Discard(conn), NotReused::ClosedWhileIdle)
            } else if self.limits.is_overdue(since, now) {
                (Action::Close(conn, EndReason::IdleLimit), NotReused::IdleTimeout)
            } else {
                return Some((conn, PoolConnection::Reused { idle: now.saturating_duration_since(since) }));
            };
            self.will_be_lost(id, reason);
            self.actions.push(action);
        }
        self.share(host, now)
    }

    /// Returns a share of the connection that speaks HTTP/2, if there is one.
    pub(super) fn share(&mut self, host: HostId, now: Instant) -> Option<(Conn, PoolConnection)> {
        let limits = self.limits;
        let shared = self.hosts[host.0].shared?;
        let Phase::Shared { conn, streams, idle_since } = &mut self.conns.get_mut(shared)?.phase else {
            return None;
        };
        let is_first = *streams == 0;
        if !conn.is_ready() || (is_first && limits.is_overdue(*idle_since, now)) {
            return None;
        }
        let share = conn.share()?;
        let idle = now.saturating_duration_since(*idle_since);
        *streams += 1;
        self.idle -= usize::from(is_first);
        Some((share, if is_first { PoolConnection::Reused { idle } } else { PoolConnection::Shared }))
    }

    /// Begins to wait, after [`checkout`](Self::checkout) has found nothing. The waiter calls [`poll`](Self::poll) until
    /// it has a connection, and [`leave`](Self::leave) in any case.
    pub(super) fn wait(&mut self, id: HostId) -> Waiting {
        let ticket = Ticket(self.number());
        let host = &self.hosts[id.0];
        let is_returning = host.returning > 0;
        let (reason, obstacle) = (self.why_not_reused(id), self.obstacle(id));
        if self.is_closed {
            return Waiting { ticket, permit: None, is_returning, reason, obstacle };
        }
        let permit = if is_returning { None } else { self.permit(id) };
        self.hosts[id.0].waiters.push(ticket, permit.is_some());
        if permit.is_none() && self.hosts[id.0].lent > 0 {
            self.await_lent(id);
        }
        Waiting { ticket, permit, is_returning, reason, obstacle }
    }

    /// Returns what the waiter was granted, or stores its waker. Returns [`Grant::Closed`] for an unknown ticket:
    /// [`close`](Self::close) removes all waiters, and no new ones are added afterwards.
    pub(super) fn poll(&mut self, host: HostId, ticket: Ticket, waker: &Waker) -> Poll<Grant<Conn>> {
        self.hosts[host.0].waiters.poll(ticket, waker)
    }

    /// Returns a permit, if the limit allows, for a waiter that has waited long enough for a returning connection.
    pub(super) fn grace_over(&mut self, host: HostId, ticket: Ticket) -> Option<ConnId> {
        if !self.hosts[host.0].waiters.needs_permit(ticket) {
            return None;
        }
        let permit = self.permit(host)?;
        self.hosts[host.0].waiters.begin_dial(ticket);
        Some(permit)
    }

    /// Ends the wait. What the waiter was granted and did not take goes to the next one.
    pub(super) fn leave(&mut self, host: HostId, ticket: Ticket) {
        if let Some(waiter) = self.hosts[host.0].waiters.remove(ticket) {
            self.revoke(waiter);
        }
    }

    // Connections

    /// The connection has a stream, on which HTTP is about to be spoken. If the pool is closed, the stream fails at once.
    pub(super) fn opened(&mut self, id: ConnId, handle: Conn::Handle) {
        if self.is_closed {
            self.actions.push(Action::Fail(handle.clone()));
        }
        if let Some(entry) = self.conns.get_mut(id) {
            entry.handle = Some(handle);
        }
    }

    /// The connection is ready for its first request. Returns it, or a share of it, for the exchange that has dialed it;
    /// `None` if it broke meanwhile.
    pub(super) fn connected(&mut self, id: ConnId, conn: Conn, now: Instant) -> Option<Conn> {
        let Some(host) = self.conns.get_mut(id).map(|entry| entry.host) else { return Some(conn) };
        if !self.keeps || !conn.is_shareable() {
            self.enter(id, Phase::InUse);
            return Some(conn);
        }
        self.enter(id, Phase::Shared { conn, streams: 0, idle_since: now });
        if let Some(replaced) = self.hosts[host.0].shared.replace(id)
            && let Some(Phase::Shared { conn, .. }) = self.enter(replaced, Phase::InUse)
        {
            self.actions.push(Action::Discard(conn)); // its streams go on
        }
        let own = self.share(host, now).map(|(share, _)| share);
        while let Some(waiter) = self.hosts[host.0].waiters.next_ungranted()
            && let Some((share, _)) = self.share(host, now)
        {
            self.grant(host, waiter, Grant::Conn(share));
        }
        self.offer_permits(host);
        own
    }

    /// The connection is ready for the next exchange. It goes to the first waiter or becomes idle.
    pub(super) fn release(&mut self, id: ConnId, conn: Conn, now: Instant) {
        let Some(host) = self.conns.get_mut(id).map(|entry| entry.host) else {
            return self.actions.push(Action::Discard(conn)); // its stream is closed already
        };
        let previous = self.enter(id, Phase::InUse);
        if !self.keeps || self.is_closed {
            self.actions.push(Action::Discard(conn));
        } else if let Some(waiter) = self.hosts[host.0].waiters.next_ungranted() {
            self.grant(host, waiter, Grant::Conn(conn));
        } else if self.limits.max_idle_per_host.is_some_and(|max| self.hosts[host.0].idle.len() >= max) {
            self.will_be_lost(id, NotReused::IdleLimit);
            self.actions.push(Action::Close(conn, EndReason::IdleLimit));
        } else {
            self.hosts[host.0].idle.push(id);
            self.enter(id, Phase::Idle { conn, since: now });
            self.became_idle(id, now);
        }
        if let Some(Phase::Returning) = previous {
            self.not_returning(host);
        }
    }

    /// The response was read, and the connection should be ready in a moment. Returns `false` if it will not be used
    /// again anyway.
    pub(super) fn returning(&mut self, id: ConnId) -> bool {
        self.will_be_reused() && self.enter(id, Phase::Returning).is_some()
    }

    /// The connection was not ready in a moment. Exchanges no longer wait for it.
    pub(super) fn late(&mut self, id: ConnId) {
        if let Some(entry) = self.conns.get_mut(id)
            && let Phase::Returning = entry.phase
        {
            let host = entry.host;
            self.enter(id, Phase::InUse);
            self.not_returning(host);
        }
    }

    /// Returns `false` if released connections are dropped.
    pub(super) fn will_be_reused(&self) -> bool {
        self.keeps && !self.is_closed
    }

    /// The response is being read. Until [`reclaim`](Self::reclaim), another exchange may get the connection as soon as it
    /// is ready.
    pub(super) fn lend(&mut self, id: ConnId, conn: Conn) -> Loan {
        let loan = Loan(self.number());
        match self.conns.get_mut(id).map(|entry| entry.host) {
            None => self.actions.push(Action::Discard(conn)),
            Some(host) if self.hosts[host.0].waiters.next_to_dial().is_some() => {
                self.actions.push(Action::AwaitReady(conn));
            }
            Some(_) => {
                // The previous phase is `InUse`, which holds no connection: none is dropped under the lock.
                drop(self.enter(id, Phase::Lent { conn, loan }));
            }
        }
        loan
    }

    /// Returns the connection at the end of the loan; `None` if it was closed or given to another exchange.
    pub(super) fn reclaim(&mut self, id: ConnId, loan: Loan) -> Option<Conn> {
        match &self.conns.get_mut(id)?.phase {
            Phase::Lent { loan: current, .. } if *current == loan => self.take_lent(id),
            _ => None,
        }
    }

    /// The exchange has dropped its connection or its share.
    pub(super) fn dropped(&mut self, id: ConnId, now: Instant) {
        // If it was returning, it broke before it was ready, and nobody should wait for it.
        self.late(id);
        let Some(Entry { phase: Phase::Shared { streams, idle_since, .. }, .. }) = self.conns.get_mut(id)
        else {
            return;
        };
        *streams -= 1;
        if *streams > 0 {
            return;
        }
        *idle_since = now;
        self.idle += 1;
        if self.will_be_reused() {
            self.became_idle(id, now);
        } else {
            self.close_conn(id, NotReused::ClosedByProgram);
        }
    }

    /// HTTP is no longer spoken on the stream: it is closed or was upgraded to another protocol.
    pub(super) fn task_ended(&mut self, id: ConnId) {
        if let Some(entry) = self.conns.get_mut(id) {
            entry.handle = None;
        }
    }

    /// The stream is closed, or the dial has failed or was dropped. The next waiter may dial.
    pub(super) fn closed(&mut self, id: ConnId) {
        let Some(host) = self.conns.get_mut(id).map(|entry| entry.host) else { return };
        self.note_loss(id);
        let counts = &mut self.hosts[host.0];
        counts.idle.retain(|idle| *idle != id);
        counts.shared.take_if(|shared| *shared == id);
        if let Some(Phase::Idle { conn, .. } | Phase::Shared { conn, .. } | Phase::Lent { conn, .. }) =
            self.enter(id, Phase::InUse)
        {
            self.actions.push(Action::Discard(conn));
        }
        self.conns.remove(id);
        self.hosts[host.0].open -= 1;
        self.offer_permits(host);
    }

    // The end

    /// The last client was dropped. Connections are closed as soon as their responses were read.
    pub(super) fn abandon(&mut self) {
        self.keeps = false;
        self.close_idle();
    }

    /// The client was closed. Idle connections are closed, waiters are refused, and connections in use fail.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.close_idle();
        let waiters: Vec<_> = self.hosts.iter_mut().flat_map(|(_, host)| host.waiters.drain()).collect();
        for mut waiter in waiters {
            self.actions.extend(waiter.waker.take().map(Action::Wake));
            self.revoke(waiter);
        }
        let handles = self.handles();
        self.actions.extend(handles.into_iter().map(Action::Fail));
    }

    /// Returns the handles of all connections on which HTTP is spoken.
    pub(super) fn handles(&self) -> Vec<Conn::Handle> {
        self.conns.iter().filter_map(|(_, entry)| entry.handle.clone()).collect()
    }

    // Helpers

    /// Returns a number that was not returned before.
    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Changes the phase of the connection and returns the previous one; `None` if the connection is closed. Keeps the
    /// numbers of connections per phase.
    fn enter(&mut self, id: ConnId, phase: Phase<Conn>) -> Option<Phase<Conn>> {
        let entry = self.conns.get_mut(id)?;
        let host = &mut self.hosts[entry.host.0];
        if let Some(count) = host.count_of(&entry.phase) {
            *count -= 1;
        }
        if let Some(count) = host.count_of(&phase) {
            *count += 1;
        }
        self.idle -= usize::from(entry.phase.idle_since().is_some());
        self.idle += usize::from(phase.idle_since().is_some());
        Some(mem::replace(&mut entry.phase, phase))
    }

    /// Adds a connection to the host, if the limit allows.
    fn permit(&mut self, id: HostId) -> Option<ConnId> {
        if self.obstacle(id).is_some() {
            return None;
        }
        let host = &mut self.hosts[id.0];
        host.open += 1;
        host.dialing += 1;
        Some(self.conns.insert(id))
    }

    /// Answers a waiter of the host.
    fn grant(&mut self, host: HostId, waiter: Ticket, grant: Grant<Conn>) {
        let waker = self.hosts[host.0].waiters.grant(waiter, grant);
        self.actions.extend(waker.map(Action::Wake));
    }

    /// Takes back what the waiter was granted.
    fn revoke(&mut self, waiter: Waiter<Conn, Waker>) {
        match waiter.into_grant() {
            Some(Grant::Conn(conn)) => self.actions.push(Action::Finish(conn)),
            Some(Grant::Dial(permit)) => self.closed(permit),
            Some(Grant::Closed) | None => {}
        }
    }

    /// Permits waiters to dial, as far as the limit allows.
    fn offer_permits(&mut self, id: HostId) {
        while let Some(waiter) = self.hosts[id.0].waiters.next_to_dial()
            && let Some(permit) = self.permit(id)
        {
            self.grant(id, waiter, Grant::Dial(permit));
        }
    }

    /// A connection is not returning any more. When there is none left, waiters need not wait for one.
    fn not_returning(&mut self, host: HostId) {
        if self.hosts[host.0].returning == 0 {
            self.offer_permits(host);
        }
    }

    /// Has all lent connections of the host released when they are ready, as an exchange needs one.
    fn await_lent(&mut self, host: HostId) {
        let is_lent = |entry: &Entry<Conn>| entry.host == host && matches!(entry.phase, Phase::Lent { .. });
        let lent: Vec<_> = self.conns.iter().filter(|(_, entry)| is_lent(entry)).map(|(id, _)| id).collect();
        for id in lent {
            let conn = self.take_lent(id);
            self.actions.extend(conn.map(Action::AwaitReady));
        }
    }

    fn take_lent(&mut self, id: ConnId) -> Option<Conn> {
        match self.enter(id, Phase::InUse)? {
            Phase::Lent { conn, .. } => Some(conn),
            _ => None,
        }
    }
}

impl<Conn, Waker> Host<Conn, Waker> {
    /// Returns the counter for that phase, or `None` if the phase has none.
    fn count_of(&mut self, phase: &Phase<Conn>) -> Option<&mut usize> {
        match phase {
            Phase::Dialing => Some(&mut self.dialing),
            Phase::Returning => Some(&mut self.returning),
            Phase::Lent { .. } => Some(&mut self.lent),
            Phase::InUse | Phase::Idle { .. } | Phase::Shared { .. } => None,
        }
    }
}

#[cfg(test)]
impl<Conn: Reusable, Waker: Clone> PoolState<Conn, Waker> {
    /// Returns the numbers of idle connections, lent connections and waiting exchanges of a host.
    pub(super) fn counts(&self, host: HostId) -> [usize; 3] {
        let Host { idle, lent, waiters, .. } = &self.hosts[host.0];
        [idle.len(), *lent, waiters.len()]
    }
}

#[cfg(test)]
mod tests;
