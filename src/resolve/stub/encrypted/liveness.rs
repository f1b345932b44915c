//! Tracks whether the nameserver still answers on a connection.
//!
//! TCP needs many minutes to notice that nobody is at the other end. The queries show it earlier, including those whose
//! callers have given up: one was sent some time ago, and nothing has come since, not even the reply to another query.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

use crate::sync::IgnorePoison;

/// How long a query may be out without any message from the nameserver before the next query gets a new connection.
pub(super) const SILENCE_LIMIT: Duration = Duration::from_secs(2);

/// What was sent and received on a connection.
#[derive(Debug, Default)]
pub(super) struct Liveness(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When the first query after the last message from the nameserver was sent; `None` if there is no such query.
    waiting_since: Option<Instant>,
    last_received: Option<Instant>,
}

impl Liveness {
    /// Notes that a query is sent.
    pub(super) fn sent(&self) {
        self.0.lock().ignore_poison().waiting_since.get_or_insert_with(Instant::now);
    }

    /// Notes a message from the nameserver.
    pub(super) fn received(&self) {
        *self.0.lock().ignore_poison() = State { waiting_since: None, last_received: Some(Instant::now()) };
    }

    /// Returns `true` if the nameserver has answered a query on this connection.
    pub(super) fn has_answered(&self) -> bool {
        self.0.lock().ignore_poison().last_received.is_some()
    }

    /// Returns `true` if a message has come at this time or later.
    pub(super) fn has_received_since(&self, time: Instant) -> bool {
        self.0.lock().ignore_poison().last_received.is_some_and(|last| last >= time)
    }

    /// Returns `true` if a query was sent that long ago, and no message has come since.
    pub(super) fn is_silent_for(&self, limit: Duration) -> bool {
        self.0.lock().ignore_poison().waiting_since.is_some_and(|since| since.elapsed() >= limit)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_first_query_after_the_last_message() {
        let (liveness, second) = (Liveness::default(), Duration::from_secs(1));
        assert!(!liveness.is_silent_for(Duration::ZERO), "nothing was asked");
        for has_answered in [false, true] {
            liveness.sent();
            advance(second).await;
            let begun = Instant::now();
            liveness.sent();
            advance(second).await;
            assert!(liveness.is_silent_for(2 * second) && !liveness.is_silent_for(3 * second));
            assert_eq!(liveness.has_answered(), has_answered);
            assert!(!liveness.has_received_since(begun));
            liveness.received();
            advance(9 * second).await;
            assert!(!liveness.is_silent_for(second) && liveness.has_received_since(begun));
        }
    }
}
