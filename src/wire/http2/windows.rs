//! [`SendWindow`]: how much of a body may still be sent (RFC 9113 section 5.2).

use crate::{sink::Tick, wire::context::WireContext};
use std::time::Duration;

/// The window of a stream, or of a connection, before SETTINGS say otherwise.
pub(super) const INITIAL_WINDOW: i64 = 65_535;

/// How much of a request's body may still be sent on its stream, and how long it has waited for more.
#[derive(Debug)]
pub(super) struct SendWindow {
    left: i64,
    /// Since when nothing may be sent.
    closed: Option<Tick>,
    waited: Duration,
}

impl SendWindow {
    pub(super) fn new(left: i64) -> Self {
        SendWindow { left, closed: None, waited: Duration::ZERO }
    }

    /// Takes what was sent. `conn` is what is left of the connection's window after that. A wait begins if either window
    /// is used up.
    pub(super) fn sent(&mut self, bytes: i64, conn: i64, context: &WireContext) {
        self.left = self.left.saturating_sub(bytes);
        if self.left.min(conn) <= 0 {
            self.closed.get_or_insert_with(|| context.conn.now());
        }
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
        let since = self.closed.take()?;
        self.waited += context.conn.between(since, context.conn.now());
        Some(self.waited)
    }
}
