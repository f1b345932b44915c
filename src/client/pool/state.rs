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
//! The limit per host is a counter and not tokio's semaphore. A waiter is in the queue for connections anyway. With a
//! second queue, for permits, one exchange could get both while another one gets neither.

use crate::record::EndReason;
use slab::Slab;
use std::{collections::VecDeque, mem, task::Poll, time::Duration};
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

/// A connection that requests can be sent over.
pub(super) trait Reusable: Sized {
    /// A handle that can close the connection while another owner uses it.
    type Handle: Clone;

    /// Returns `true` if it can take a request now.
    fn is_ready(&self) -> bool;

    /// Returns `true` if any number of exchanges can use it at the same time, as over HTTP/2.
    fn is_shareable(&self) -> bool;

    /// Returns the same connection for one more exchange, if that is possible.
    fn share(&self) -> Option<Self>;
}

/// Identifies a connection. Identifiers are not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnId {
    index: usize,
    serial: u64,
}

/// Identifies a host, until [`PoolState::remove_host`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostId(usize);

/// Identifies a waiter. Earlier waiters have smaller tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// Identifies one loan: the exchange that reads a response lends its connection to the pool. A later exchange may lend
/// the same connection again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loan(u64);

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

/// The answer to a waiter.
#[derive(Debug, PartialEq)]
pub(super) enum Grant<Conn> {
    /// A connection.
    Conn(Conn),
    /// The permit to dial that connection. The waiter still waits for another one meanwhile.
    Dial(ConnId),
    /// The pool is closed.
    Closed,
}

/// The result of [`PoolState::wait`].
#[derive(Debug, PartialEq)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    /// The permit to dial that connection at once.
    pub(super) permit: Option<ConnId>,
    /// A connection should be ready in a moment. After that, call [`PoolState::grace_over`].
    pub(super) is_returning: bool,
}

/// The connections of a client, and the exchanges that wait for one. `Conn` is a connection, and `Waker` wakes a
/// waiter.
pub(super) struct PoolState<Conn: Reusable, Waker> {
    limits: Limits,
    /// Whether connections are used more than once.
    keeps: bool,
    is_closed: bool,
    hosts: Slab<Host<Conn, Waker>>,
    conns: Slab<Entry<Conn>>,
    /// The number of idle connections to all hosts.
    idle: usize,
    /// Whether a [`WakeAt`](Action::WakeAt) is outstanding.
    is_timed: bool,
    /// The source of serials, tickets and loans.
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
    /// Sorted by ticket: first come, first served.
    waiters: VecDeque<Waiter<Conn, Waker>>,
    /// The number of connections in any phase.
    open: usize,
    /// The numbers of connections in a phase.
    dialing: usize,
    returning: usize,
    lent: usize,
}

struct Waiter<Conn, Waker> {
    ticket: Ticket,
    /// `None` before the first poll.
    waker: Option<Waker>,
    stage: Stage<Conn>,
}

enum Stage<Conn> {
    NeedsPermit,
    Dialing,
    /// Until the waiter is polled, or leaves.
    Granted(Grant<Conn>),
}

struct Entry<Conn: Reusable> {
    serial: u64,
    host: HostId,
    phase: Phase<Conn>,
    /// Present from `opened` to `task_ended`.
    handle: Option<Conn::Handle>,
}

enum Phase<Conn> {
    Dialing,
    /// In use by an exchange, not ready for the next one yet, or about to be closed.
    InUse,
    /// The response was read, and the connection should be ready in a moment.
    Returning,
    /// Lent to the pool by the exchange that reads the response. A slow reader may still be busy when the connection is
    /// ready for another exchange.
    Lent {
        conn: Conn,
        loan: Loan,
    },
    Idle {
        conn: Conn,
        since: Instant,
    },
    Shared {
        conn: Conn,
        streams: usize,
        /// When the last stream ended.
        idle_since: Instant,
    },
}

impl<Conn> Phase<Conn> {
    fn idle_since(&self) -> Option<Instant> {
        match self {
            Phase::Idle { since, .. } => Some(*since),
            Phase::Shared { streams: 0, idle_since, .. } => Some(*idle_since),
            Phase::Shared { .. } | Phase::Dialing | Phase::InUse | Phase::Returning | Phase::Lent { .. } => {
                None
            }
        }
    }
}

impl<Conn: Reusable, Waker: Clone> PoolState<Conn, Waker> {
    pub(super) fn new(limits: Limits) -> Self {
        PoolState {
            limits,
            keeps: limits.max_idle_per_host != Some(0),
            is_closed: false,
            hosts: Slab::new(),
            conns: Slab::new(),
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

    /// Adds a host without connections.
    pub(super) fn add_host(&mut self, is_http2_only: bool) -> HostId {
        HostId(self.hosts.insert(Host {
            shares_dials: is_http2_only && self.keeps,
            idle: Vec::new(),
            shared: None,
            waiters: VecDeque::new(),
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

    /// Returns a connection that can be used at once: the idle one that was used last, or a share of the one that
    /// speaks HTTP/2.
    pub(super) fn checkout(&mut self, host: HostId, now: Instant) -> Option<Conn> {
        while let Some(id) = self.hosts[host.0].idle.pop() {
            let Some(Phase::Idle { conn, since }) = self.enter(id, Phase::InUse) else { continue };
            let action = if !conn.is_ready() {
                Action::Discard(conn)
            } else if self.is_overdue(since, now) {
                Action::Close(conn, EndReason::IdleLimit)
            } else {
                return Some(conn);
            };
            self.actions.push(action);
        }
        self.share(host, now)
    }

    /// Returns a share of the connection that speaks HTTP/2, if there is one.
    pub(super) fn share(&mut self, host: HostId, now: Instant) -> Option<Conn> {
        let timeout = self.limits.idle_timeout;
        let shared = self.hosts[host.0].shared?;
        let Phase::Shared { conn, streams, idle_since } = &mut self.get(shared)?.phase else { return None };
        let is_first = *streams == 0;
        if !conn.is_ready() || (is_first && is_over(timeout, *idle_since, now)) {
            return None;
        }
        let share = conn.share()?;
        *streams += 1;
        self.idle -= usize::from(is_first);
        Some(share)
    }

    /// Begins to wait, after [`checkout`](Self::checkout) has found nothing. The waiter calls [`poll`](Self::poll) until
    /// it has a connection, and [`leave`](Self::leave) in any case.
    pub(super) fn wait(&mut self, id: HostId) -> Waiting {
        let ticket = Ticket(self.number());
        let is_returning = self.hosts[id.0].returning > 0;
        if self.is_closed {
            return Waiting { ticket, permit: None, is_returning };
        }
        let permit = if is_returning { None } else { self.permit(id) };
        let stage = if permit.is_some() { Stage::Dialing } else { Stage::NeedsPermit };
        self.hosts[id.0].waiters.push_back(Waiter { ticket, waker: None, stage });
        if permit.is_none() && self.hosts[id.0].lent > 0 {
            self.await_lent(id);
        }
        Waiting { ticket, permit, is_returning }
    }

    /// Returns what the waiter was granted, or stores its waker. Returns [`Grant::Closed`] for an unknown ticket:
    /// [`close`](Self::close) removes all waiters, and no new ones are added afterwards.
    pub(super) fn poll(&mut self, host: HostId, ticket: Ticket, waker: &Waker) -> Poll<Grant<Conn>> {
        let waiters = &mut self.hosts[host.0].waiters;
        let Ok(index) = position(waiters, ticket) else { return Poll::Ready(Grant::Closed) };
        let waiter = &mut waiters[index];
        match mem::replace(&mut waiter.stage, Stage::Dialing) {
            Stage::Granted(Grant::Dial(permit)) => Poll::Ready(Grant::Dial(permit)),
            Stage::Granted(grant) => {
                waiters.remove(index);
                Poll::Ready(grant)
            }
            stage => {
                waiter.stage = stage;
                match &mut waiter.waker {
                    Some(known) => known.clone_from(waker),
                    None => waiter.waker = Some(waker.clone()),
                }
                Poll::Pending
            }
        }
    }

    /// Returns a permit, if the limit allows, for a waiter that has waited long enough for a returning connection.
    pub(super) fn grace_over(&mut self, host: HostId, ticket: Ticket) -> Option<ConnId> {
        let index = position(&self.hosts[host.0].waiters, ticket).ok()?;
        if !matches!(self.hosts[host.0].waiters[index].stage, Stage::NeedsPermit) {
            return None;
        }
        let permit = self.permit(host)?;
        self.hosts[host.0].waiters[index].stage = Stage::Dialing;
        Some(permit)
    }

    /// Ends the wait. What the waiter was granted and did not take goes to the next one.
    pub(super) fn leave(&mut self, host: HostId, ticket: Ticket) {
        let waiters = &mut self.hosts[host.0].waiters;
        let waiter = position(waiters, ticket).ok().and_then(|index| waiters.remove(index));
        self.revoke(waiter);
    }

    // Connections

    /// The connection has a stream, on which HTTP is about to be spoken. If the pool is closed, the stream fails at once.
    pub(super) fn opened(&mut self, id: ConnId, handle: Conn::Handle) {
        if self.is_closed {
            self.actions.push(Action::Fail(handle.clone()));
        }
        if let Some(entry) = self.get(id) {
            entry.handle = Some(handle);
        }
    }

    /// The connection is ready for its first request. Returns it, or a share of it, for the exchange that has dialed it;
    /// `None` if it broke meanwhile.
    pub(super) fn connected(&mut self, id: ConnId, conn: Conn, now: Instant) -> Option<Conn> {
        let Some(host) = self.get(id).map(|entry| entry.host) else { return Some(conn) };
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
        let own = self.share(host, now);
        while let Some(index) = self.hosts[host.0].next_waiter()
            && let Some(share) = self.share(host, now)
        {
            self.grant(host, index, Grant::Conn(share));
        }
        self.offer_permits(host);
        own
    }

    /// The connection is ready for the next exchange. It goes to the first waiter or becomes idle.
    pub(super) fn release(&mut self, id: ConnId, conn: Conn, now: Instant) {
        let Some(host) = self.get(id).map(|entry| entry.host) else {
            return self.actions.push(Action::Discard(conn)); // its stream is closed already
        };
        let previous = self.enter(id, Phase::InUse);
        if !self.keeps || self.is_closed {
            self.actions.push(Action::Discard(conn));
        } else if let Some(index) = self.hosts[host.0].next_waiter() {
            self.grant(host, index, Grant::Conn(conn));
        } else if self.limits.max_idle_per_host.is_some_and(|max| self.hosts[host.0].idle.len() >= max) {
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
        if let Some(entry) = self.get(id)
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
        match self.get(id).map(|entry| entry.host) {
            None => self.actions.push(Action::Discard(conn)),
            Some(host) if self.hosts[host.0].next_to_dial().is_some() => {
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
        match &self.get(id)?.phase {
            Phase::Lent { loan: current, .. } if *current == loan => self.take_lent(id),
            _ => None,
        }
    }

    /// The exchange has dropped its connection or its share.
    pub(super) fn dropped(&mut self, id: ConnId, now: Instant) {
        // If it was returning, it broke before it was ready, and nobody should wait for it.
        self.late(id);
        let Some(Entry { phase: Phase::Shared { streams, idle_since, .. }, .. }) = self.get(id) else {
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
            self.close_conn(id, EndReason::Closed);
        }
    }

    /// HTTP is no longer spoken on the stream: it is closed or was upgraded to another protocol.
    pub(super) fn task_ended(&mut self, id: ConnId) {
        if let Some(entry) = self.get(id) {
            entry.handle = None;
        }
    }

    /// The stream is closed, or the dial has failed or was dropped. The next waiter may dial.
    pub(super) fn closed(&mut self, id: ConnId) {
        let Some(host) = self.get(id).map(|entry| entry.host) else { return };
        let counts = &mut self.hosts[host.0];
        counts.idle.retain(|idle| *idle != id);
        counts.shared.take_if(|shared| *shared == id);
        if let Some(Phase::Idle { conn, .. } | Phase::Shared { conn, .. } | Phase::Lent { conn, .. }) =
            self.enter(id, Phase::InUse)
        {
            self.actions.push(Action::Discard(conn));
        }
        self.conns.remove(id.index);
        self.hosts[host.0].open -= 1;
        self.offer_permits(host);
    }

    // Limits, and the end

    /// Closes the connections that have been idle for too long. Returns when to call this again. Returns `None` if no
    /// connection is idle; the next one that becomes idle adds a new [`WakeAt`](Action::WakeAt).
    pub(super) fn expire(&mut self, now: Instant) -> Option<Instant> {
        let timeout = self.limits.idle_timeout;
        self.close_idle_if(EndReason::IdleLimit, |since| is_over(timeout, since, now));
        let first = self.conns.iter().filter_map(|(_, entry)| entry.phase.idle_since()).min();
        let next = first.zip(timeout).and_then(|(first, timeout)| first.checked_add(timeout));
        self.is_timed = next.is_some();
        next
    }

    /// The task that calls [`expire`](Self::expire) was dropped, with its runtime.
    pub(super) fn timer_stopped(&mut self) {
        self.is_timed = false;
    }

    /// Closes all idle connections.
    pub(super) fn close_idle(&mut self) {
        self.close_idle_if(EndReason::Closed, |_| true);
    }

    /// The last client was dropped. Connections are closed as soon as their responses were read.
    pub(super) fn abandon(&mut self) {
        self.keeps = false;
        self.close_idle();
    }

    /// The client was closed. Idle connections are closed, waiters are refused, and connections in use fail.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.close_idle();
        let waiters: Vec<_> = self.hosts.iter_mut().flat_map(|(_, host)| host.waiters.drain(..)).collect();
        for waiter in waiters {
            self.actions.extend(waiter.waker.clone().map(Action::Wake));
            self.revoke(Some(waiter));
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

    #[inline]
    fn get(&mut self, id: ConnId) -> Option<&mut Entry<Conn>> {
        self.conns.get_mut(id.index).filter(|entry| entry.serial == id.serial)
    }

    /// Changes the phase of the connection and returns the previous one; `None` if the connection is closed. Keeps the
    /// numbers of connections per phase.
    fn enter(&mut self, id: ConnId, phase: Phase<Conn>) -> Option<Phase<Conn>> {
        let entry = self.conns.get_mut(id.index).filter(|entry| entry.serial == id.serial)?;
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

    fn is_overdue(&self, since: Instant, now: Instant) -> bool {
        is_over(self.limits.idle_timeout, since, now)
    }

    /// Adds a connection to the host, if the limit allows.
    fn permit(&mut self, id: HostId) -> Option<ConnId> {
        let host = &mut self.hosts[id.0];
        let is_full = self.limits.max_per_host.is_some_and(|max| host.open >= max);
        if is_full || (host.shares_dials && host.dialing > 0) {
            return None;
        }
        host.open += 1;
        host.dialing += 1;
        let serial = self.number();
        let index = self.conns.insert(Entry { serial, host: id, phase: Phase::Dialing, handle: None });
        Some(ConnId { index, serial })
    }

    /// Answers the waiter at that index.
    fn grant(&mut self, host: HostId, index: usize, grant: Grant<Conn>) {
        let waiter = &mut self.hosts[host.0].waiters[index];
        waiter.stage = Stage::Granted(grant);
        self.actions.extend(waiter.waker.take().map(Action::Wake));
    }

    /// Takes back what the waiter was granted.
    fn revoke(&mut self, waiter: Option<Waiter<Conn, Waker>>) {
        match waiter.map(|waiter| waiter.stage) {
            Some(Stage::Granted(Grant::Conn(conn))) => self.actions.push(Action::Finish(conn)),
            Some(Stage::Granted(Grant::Dial(permit))) => self.closed(permit),
            _ => {}
        }
    }

    /// Permits waiters to dial, as far as the limit allows.
    fn offer_permits(&mut self, id: HostId) {
        while let Some(index) = self.hosts[id.0].next_to_dial()
            && let Some(permit) = self.permit(id)
        {
            self.grant(id, index, Grant::Dial(permit));
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
        let lent = |(index, entry): (usize, &Entry<Conn>)| {
            let is_lent = entry.host == host && matches!(entry.phase, Phase::Lent { .. });
            is_lent.then_some(ConnId { index, serial: entry.serial })
        };
        let all: Vec<_> = self.conns.iter().filter_map(lent).collect();
        for id in all {
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

    /// Enforces the limits on idle connections, after another one has become idle.
    fn became_idle(&mut self, id: ConnId, now: Instant) {
        while self.limits.max_idle.is_some_and(|max| self.idle > max)
            && let Some(oldest) = self.longest_idle()
        {
            self.close_conn(oldest, EndReason::IdleLimit);
        }
        if self.is_timed {
            return;
        }
        let at = self.limits.idle_timeout.and_then(|timeout| now.checked_add(timeout));
        let handle = self.get(id).and_then(|entry| entry.handle.clone());
        if let (Some(at), Some(handle)) = (at, handle) {
            self.is_timed = true;
            self.actions.push(Action::WakeAt(at, handle));
        }
    }

    /// Returns the connection that has been idle longest.
    fn longest_idle(&self) -> Option<ConnId> {
        let idle = |(index, entry): (usize, &Entry<Conn>)| {
            Some((entry.phase.idle_since()?, ConnId { index, serial: entry.serial }))
        };
        self.conns.iter().filter_map(idle).min_by_key(|(since, _)| *since).map(|(_, id)| id)
    }

    /// Closes every idle connection for which `is_chosen` accepts the start of its idle time.
    fn close_idle_if(&mut self, reason: EndReason, is_chosen: impl Fn(Instant) -> bool) {
        let chosen = |(index, entry): (usize, &Entry<Conn>)| {
            entry
                .phase
                .idle_since()
                .filter(|since| is_chosen(*since))
                .map(|_| ConnId { index, serial: entry.serial })
        };
        let all: Vec<_> = self.conns.iter().filter_map(chosen).collect();
        for id in all {
            self.close_conn(id, reason.clone());
        }
    }

    /// Closes a connection that is idle.
    fn close_conn(&mut self, id: ConnId, reason: EndReason) {
        let Some(host) = self.get(id).map(|entry| entry.host) else { return };
        let host = &mut self.hosts[host.0];
        host.idle.retain(|idle| *idle != id);
        host.shared.take_if(|shared| *shared == id);
        if let Some(Phase::Idle { conn, .. } | Phase::Shared { conn, .. }) = self.enter(id, Phase::InUse) {
            self.actions.push(Action::Close(conn, reason));
        }
    }
}

impl<Conn, Waker> Host<Conn, Waker> {
    /// Returns the index of the first waiter that was granted nothing.
    fn next_waiter(&self) -> Option<usize> {
        self.waiters.iter().position(|waiter| !matches!(waiter.stage, Stage::Granted(_)))
    }

    /// Returns the index of the first waiter that may not dial yet.
    fn next_to_dial(&self) -> Option<usize> {
        self.waiters.iter().position(|waiter| matches!(waiter.stage, Stage::NeedsPermit))
    }

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

/// Returns the index of the waiter with that ticket.
fn position<Conn, Waker>(waiters: &VecDeque<Waiter<Conn, Waker>>, ticket: Ticket) -> Result<usize, usize> {
    waiters.binary_search_by_key(&ticket, |waiter| waiter.ticket)
}

fn is_over(timeout: Option<Duration>, since: Instant, now: Instant) -> bool {
    timeout.is_some_and(|timeout| now.saturating_duration_since(since) >= timeout)
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
