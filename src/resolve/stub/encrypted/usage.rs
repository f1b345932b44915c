//! Tracks how long a connection has been idle.

use std::{sync::Mutex, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::sync::IgnorePoison;

/// How long a connection is kept without a query. Nameservers close idle connections after some seconds, too (RFC 7766
/// section 6.2.3).
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// Counts the queries that are under way.
#[derive(Debug)]
pub(super) struct Usage(Mutex<State>);

#[derive(Debug)]
struct State {
    queries: usize,
    /// When the last query ended.
    idle_since: Instant,
}

/// A query that is under way.
#[derive(Debug)]
pub(super) struct InUse<'a>(&'a Usage);

impl Usage {
    pub(super) fn new() -> Self {
        Usage(Mutex::new(State { queries: 0, idle_since: Instant::now() }))
    }

    /// Counts a query until the guard is dropped.
    pub(super) fn begin(&self) -> InUse<'_> {
        self.0.lock().ignore_poison().queries += 1;
        InUse(self)
    }

    /// Waits until there has been no query for this time.
    pub(super) async fn idle_for(&self, limit: Duration) {
        loop {
            // A query that is under way now is idle at the earliest after the limit.
            let idle_since = {
                let state = self.0.lock().ignore_poison();
                if state.queries > 0 { Instant::now() } else { state.idle_since }
            };
            let end = idle_since + limit;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        let mut state = self.0.0.lock().ignore_poison();
        state.queries -= 1;
        state.idle_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{advance, timeout};

    #[tokio::test(start_paused = true)]
    async fn a_query_under_way_keeps_the_connection() {
        let usage = Usage::new();
        let limit = Duration::from_secs(10);
        let query = usage.begin();
        advance(5 * limit).await;
        assert!(timeout(limit / 2, usage.idle_for(limit)).await.is_err());
        drop(query);
        let since = Instant::now();
        usage.idle_for(limit).await;
        assert!((limit..2 * limit).contains(&since.elapsed()), "{:?}", since.elapsed());
    }
}
