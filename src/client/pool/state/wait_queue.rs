//! [`WaitQueue`]: the exchanges that wait for a connection to one host, first come, first served.
//!
//! A waiter takes whichever comes first: the connection that it dials, or one that another exchange releases. So it
//! stays in the queue while it dials. The queue tells who is next; [`PoolState`](super::PoolState) decides what there is
//! to grant.
//!
//! | stage | event | next stage |
//! |---|---|---|
//! | `NeedsPermit` | `begin_dial`: the waiter itself was given the permit | `Dialing` |
//! | `NeedsPermit` | `grant` of a permit | `Granted` |
//! | `NeedsPermit`, `Dialing` | `grant` of a connection | `Granted` |
//! | `Granted` | `poll` takes a permit | `Dialing` |
//! | `Granted` | `poll` takes a connection | – |
//! | any | `remove`, `drain`: the caller takes back what was granted | – |

use super::ids::{ConnId, Ticket};
use std::{collections::VecDeque, mem, task::Poll};

/// The answer to a waiter.
#[derive(Debug, PartialEq)]
pub(in crate::client::pool) enum Grant<Conn> {
    /// A connection.
    Conn(Conn),
    /// The permit to dial that connection. The waiter still waits for another one meanwhile.
    Dial(ConnId),
    /// The pool is closed.
    Closed,
}

/// The waiters of a host. `Waker` wakes one.
pub(super) struct WaitQueue<Conn, Waker> {
    /// Sorted by ticket.
    waiters: VecDeque<Waiter<Conn, Waker>>,
}

/// An exchange that waits.
pub(super) struct Waiter<Conn, Waker> {
    ticket: Ticket,
    /// `None` before the first poll, and once it was taken to wake the waiter.
    pub(super) waker: Option<Waker>,
    stage: Stage<Conn>,
}

enum Stage<Conn> {
    NeedsPermit,
    Dialing,
    /// Until the waiter is polled, or leaves.
    Granted(Grant<Conn>),
}

impl<Conn, Waker: Clone> WaitQueue<Conn, Waker> {
    pub(super) fn new() -> Self {
        WaitQueue { waiters: VecDeque::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Adds a waiter, whose ticket is greater than all before.
    pub(super) fn push(&mut self, ticket: Ticket, is_dialing: bool) {
        let stage = if is_dialing { Stage::Dialing } else { Stage::NeedsPermit };
        self.waiters.push_back(Waiter { ticket, waker: None, stage });
    }

    /// Returns what the waiter was granted, or stores its waker. Returns [`Grant::Closed`] for a waiter that is not in
    /// the queue.
    pub(super) fn poll(&mut self, ticket: Ticket, waker: &Waker) -> Poll<Grant<Conn>> {
        let Ok(index) = self.position(ticket) else { return Poll::Ready(Grant::Closed) };
        let waiter = &mut self.waiters[index];
        match mem::replace(&mut waiter.stage, Stage::Dialing) {
            Stage::Granted(Grant::Dial(permit)) => Poll::Ready(Grant::Dial(permit)),
            Stage::Granted(grant) => {
                self.waiters.remove(index);
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

    /// Returns the first waiter that was granted nothing.
    pub(super) fn next_ungranted(&self) -> Option<Ticket> {
        let mut waiters = self.waiters.iter();
        waiters.find(|waiter| !matches!(waiter.stage, Stage::Granted(_))).map(|waiter| waiter.ticket)
    }

    /// Returns the first waiter that may not dial yet.
    pub(super) fn next_to_dial(&self) -> Option<Ticket> {
        self.waiters.iter().find(|waiter| waiter.needs_permit()).map(|waiter| waiter.ticket)
    }

    /// Returns `true` if the waiter may not dial yet, and was granted nothing.
    pub(super) fn needs_permit(&self, ticket: Ticket) -> bool {
        self.position(ticket).is_ok_and(|index| self.waiters[index].needs_permit())
    }

    /// The waiter was given a permit to dial without being woken for it.
    pub(super) fn begin_dial(&mut self, ticket: Ticket) {
        if let Ok(index) = self.position(ticket) {
            self.waiters[index].stage = Stage::Dialing;
        }
    }

    /// Answers a waiter of the queue. Returns its waker, if it is to be woken.
    pub(super) fn grant(&mut self, ticket: Ticket, grant: Grant<Conn>) -> Option<Waker> {
        let index = self.position(ticket).expect("only waiters of the queue are granted something");
        let waiter = &mut self.waiters[index];
        waiter.stage = Stage::Granted(grant);
        waiter.waker.take()
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Waiter<Conn, Waker>> {
        self.position(ticket).ok().and_then(|index| self.waiters.remove(index))
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Waiter<Conn, Waker>> {
        self.waiters.drain(..)
    }

    fn position(&self, ticket: Ticket) -> Result<usize, usize> {
        self.waiters.binary_search_by_key(&ticket, |waiter| waiter.ticket)
    }
}

impl<Conn, Waker> Waiter<Conn, Waker> {
    fn needs_permit(&self) -> bool {
        matches!(self.stage, Stage::NeedsPermit)
    }

    /// Returns what the waiter was granted and has not taken.
    pub(super) fn into_grant(self) -> Option<Grant<Conn>> {
        match self.stage {
            Stage::Granted(grant) => Some(grant),
            Stage::NeedsPermit | Stage::Dialing => None,
        }
    }
}
