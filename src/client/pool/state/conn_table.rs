//! [`ConnTable`]: the connections of the pool, each with its host and its [`Phase`].
//!
//! A connection is in the table from its permit to dial until its stream is closed. The driver may report an event of a
//! connection that has left the table, whose place another one has taken. So each entry has a serial number, which is
//! part of its [`ConnId`].

use super::ids::{ConnId, HostId, Loan};
use crate::sink::NotReused;
use slab::Slab;
use tokio::time::Instant;

/// A connection that requests can be sent over.
pub(in crate::client::pool) trait Reusable: Sized {
    /// A handle that can close the connection while another owner uses it.
    type Handle: Clone;

    /// Returns `true` if it can take a request now.
    fn is_ready(&self) -> bool;

    /// Returns `true` if any number of exchanges can use it at the same time, as over HTTP/2.
    fn is_shareable(&self) -> bool;

    /// Returns the same connection for one more exchange, if that is possible.
    fn share(&self) -> Option<Self>;
}

/// The connections to all hosts.
pub(super) struct ConnTable<Conn: Reusable> {
    entries: Slab<Entry<Conn>>,
    next_serial: u64,
}

/// A connection in the table.
pub(super) struct Entry<Conn: Reusable> {
    serial: u64,
    pub(super) host: HostId,
    pub(super) phase: Phase<Conn>,
    /// Present from `opened` to `task_ended`.
    pub(super) handle: Option<Conn::Handle>,
    /// Why it is about to be closed, if that is known.
    pub(super) lost: Option<NotReused>,
}

/// The phase of a connection. The [state machine](super) has a table of the events that change it.
pub(super) enum Phase<Conn> {
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

impl<Conn: Reusable> ConnTable<Conn> {
    pub(super) fn new() -> Self {
        ConnTable { entries: Slab::new(), next_serial: 0 }
    }

    /// Adds a connection that is being dialed.
    pub(super) fn insert(&mut self, host: HostId) -> ConnId {
        let serial = self.next_serial;
        self.next_serial += 1;
        let index =
            self.entries.insert(Entry { serial, host, phase: Phase::Dialing, handle: None, lost: None });
        ConnId { index, serial }
    }

    /// Returns the connection; `None` if it has left the table.
    #[inline]
    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Entry<Conn>> {
        self.entries.get_mut(id.index).filter(|entry| entry.serial == id.serial)
    }

    /// Removes the connection, if it is in the table.
    pub(super) fn remove(&mut self, id: ConnId) {
        if self.get_mut(id).is_some() {
            self.entries.remove(id.index);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, &Entry<Conn>)> {
        self.entries.iter().map(|(index, entry)| (ConnId { index, serial: entry.serial }, entry))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<Conn> Phase<Conn> {
    /// Returns since when no exchange has used the connection; `None` if it is not idle.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        match self {
            Phase::Idle { since, .. } => Some(*since),
            Phase::Shared { streams: 0, idle_since, .. } => Some(*idle_since),
            Phase::Shared { .. } | Phase::Dialing | Phase::InUse | Phase::Returning | Phase::Lent { .. } => {
                None
            }
        }
    }
}
