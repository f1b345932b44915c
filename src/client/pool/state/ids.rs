//! The identifiers that the pool's state machine hands out.
//!
//! The driver keeps them and passes them back with later events. They are plain numbers, so an event may come too late:
//! a [`ConnId`], [`Ticket`] or [`Loan`] is never used for anything else, and an unknown one is ignored.

/// Identifies a connection. Identifiers are not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client::pool) struct ConnId {
    pub(super) index: usize,
    pub(super) serial: u64,
}

/// Identifies a host, until [`PoolState::remove_host`](super::PoolState::remove_host).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client::pool) struct HostId(pub(super) usize);

/// Identifies a waiter. Earlier waiters have smaller tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::client::pool) struct Ticket(pub(super) u64);

/// Identifies one loan: the exchange that reads a response lends its connection to the pool. A later exchange may lend
/// the same connection again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::client::pool) struct Loan(pub(super) u64);
