//! [`SendWindow`]: how much of a body may still be sent (RFC 9113 section 5.2).

use crate::{sink::Tick, wire::context::WireContext};
use std::time::Duration;

/// The window of a stream, or of a connection, before SETTINGS say otherwise.
pub(super) const INITIAL_WINDOW: i64 = 65_535;

/// How much of a request's body may still be sent on its stream, and how long it has waited for more.
#[derive(Debug)]
pub(super) struct SendWindow {
    left: i64,
    closed: Option<Closed>,
    waited: Duration,
    /// How long the window of the connection was last used up by others, since this stream sent something. The body may
    /// have waited for it if it goes on.
    maybe_waited: Duration,
}

/// A time in which nothing may be sent.
#[derive(Debug)]
struct Closed {
    since: Tick,
    /// Whether other streams have used up the window of the connection.
    by_others: bool,
}

impl SendWindow {
    /// Creates the window of a new stream. `conn` is what is left of the connection's window.
    pub(super) fn new(left: i64, conn: i64, context: &WireContext) -> Self {
        let is_closed = left.min(conn) <= 0;
        let closed = is_closed.then(|| Closed { since: context.conn.now(), by_others: left > 0 });
        SendWindow { left, closed, waited: Duration::ZERO, maybe_waited: Duration::ZERO }
    }

    /// Takes what was sent. `conn` is what is left of the connection's window after that. A wait begins if either
    /// window is used up. Returns how long the body has waited in all, if that was not known before.
    pub(super) fn sent(&mut self, bytes: i64, conn: i64, context: &WireContext) -> Option<Duration> {
        if bytes == 0 {
            return None; // no window is needed for it
        }
        self.left = self.left.saturating_sub(bytes);
        if self.left.min(conn) <= 0 && self.closed.as_ref().is_none_or(|closed| closed.by_others) {
            self.closed = Some(Closed { since: context.conn.now(), by_others: false });
        }
        let more = std::mem::take(&mut self.maybe_waited);
        self.waited += more;
        (!more.is_zero()).then_some(self.waited)
    }

    /// Records that other streams have used up the window of the connection.
    pub(super) fn conn_used_up(&mut self, now: Tick) {
        self.closed.get_or_insert(Closed { since: now, by_others: true });
    }

    /// Changes the window by what the server allows. Returns how long the body has waited in all, if a wait ends.
    pub(super) fn change(&mut self, by: i64, conn: i64, context: &WireContext) -> Option<Duration> {
        self.left = self.left.saturating_add(by);
        if self.left.min(conn) > 0 { self.reopened(context) } else { None }
    }

    /// Ends the wait with the stream. Returns how long the body has waited in all, if it was waiting.
    pub(super) fn end(mut self, context: &WireContext) -> Option<Duration> {
        self.reopened(context)
    }

    fn reopened(&mut self, context: &WireContext) -> Option<Duration> {
        let Closed { since, by_others } = self.closed.take()?;
        let waited = context.conn.between(since, context.conn.now());
        if by_others {
            self.maybe_waited = waited;
            return None;
        }
        self.waited += waited;
        Some(self.waited)
    }
}
