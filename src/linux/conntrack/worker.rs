//! The thread that queries the kernel and keeps what it says.

use super::{
    entry::ParsedEntry,
    problem::ConntrackProblem,
    queue::Batch,
    schedule::{Query, Schedule},
    state::ProbeState,
    table::{MAX_BATCH, QueryResult, Table},
    tuple::Tuple,
};
use crate::{
    record::{ConntrackEntry, TcpState},
    sink::ConnRef,
};
use smallvec::SmallVec;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long the queries at the close of the sink may take, which waits for them.
const FINAL_QUERY_TIMEOUT: Duration = Duration::from_millis(200);

/// Queries connections until the probe is stopped.
pub(super) struct Worker {
    table: Table,
    state: Arc<ProbeState>,
    schedule: Schedule,
    /// Whether any connection had an entry.
    found_any: bool,
}

/// The kernel does not answer queries, and will not do so later.
struct Disabled;

impl Worker {
    pub(super) fn new(table: Table, state: Arc<ProbeState>) -> Self {
        Worker { table, state, schedule: Schedule::default(), found_any: false }
    }

    /// Runs until the probe is stopped or the kernel refuses to answer.
    pub(super) fn run(mut self) {
        let state = self.state.clone();
        let _guard = CloseQueueGuard(&state);
        let mut batch = Batch::default();
        loop {
            state.queue.wait(self.schedule.due(), &mut batch);
            let now = Instant::now();
            if self.run_batch(&mut batch, now).is_err() || batch.stopped {
                // The drop of the batch tells waiting refreshes that they will not be answered.
                return;
            }
            self.schedule.answer_refreshes(batch.refreshes.drain(..), now);
        }
    }

    fn run_batch(&mut self, batch: &mut Batch, now: Instant) -> Result<(), Disabled> {
        let deadline = batch.stopped.then(|| now + FINAL_QUERY_TIMEOUT);
        let queries = self.schedule.queries(batch, now);
        for queries in queries.chunks(MAX_BATCH) {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                break;
            }
            self.run_queries(queries)?;
        }
        self.schedule.sweep();
        Ok(())
    }

    /// Runs up to [`MAX_BATCH`] queries.
    fn run_queries(&mut self, queries: &[Query]) -> Result<(), Disabled> {
        let mut tuples: SmallVec<[Tuple; MAX_BATCH]> = SmallVec::new();
        let mut sent: SmallVec<[&Query; MAX_BATCH]> = SmallVec::new();
        for query in queries {
            // The kernel does not know a UDP socket before its first packet.
            match Tuple::of(&query.conn).filter(|_| query.conn.was_used()) {
                Some(tuple) => {
                    tuples.push(tuple);
                    sent.push(query);
                }
                None => self.schedule.on_answer(query, true),
            }
        }
        for (query, result) in sent.into_iter().zip(self.table.query(&tuples)) {
            let has_ended = self.on_result(&query.conn, result)?;
            self.schedule.on_answer(query, has_ended);
        }
        Ok(())
    }

    /// Keeps the entry of a connection. Returns `true` if nothing more will come of it: TCP has ended, or there is no
    /// TCP, or no entry.
    fn on_result(&mut self, conn: &ConnRef, result: QueryResult) -> Result<bool, Disabled> {
        match result {
            Ok(Some(parsed)) => {
                let tcp_state = self.on_entry(conn, parsed);
                Ok(matches!(tcp_state, TcpState::None | TcpState::TimeWait | TcpState::Close))
            }
            Ok(None) => {
                self.on_missing(conn);
                Ok(true)
            }
            Err(problem) => {
                let is_temporary = matches!(problem, ConntrackProblem::Unavailable(_));
                self.state.problems.report(problem);
                if is_temporary { Ok(false) } else { Err(Disabled) }
            }
        }
    }

    fn on_entry(&mut self, conn: &ConnRef, parsed: ParsedEntry) -> TcpState {
        self.found_any = true;
        if !parsed.has_counters {
            self.state.problems.report(ConntrackProblem::NoCounters);
        }
        if !parsed.has_timestamps {
            self.state.problems.report(ConntrackProblem::NoTimestamps);
        }
        let entry = parsed.entry;
        // As long as the connection is open no other one can have its addresses.
        let is_its_own =
            conn.is_open() || conn.known_conntrack(|known| is_same_entry(known, &entry)).unwrap_or(true);
        if !is_its_own {
            return TcpState::None;
        }
        if conn.known_conntrack(|known| !has_same_origin(known, &entry)) == Some(true) {
            conn.conntrack_lost(); // the kernel has made another one for a later packet
        }
        let tcp_state = entry.tcp_state.clone();
        conn.conntrack(entry);
        tcp_state
    }

    /// Notes that an open connection has lost its entry, and reports those that the kernel should track and does not.
    ///
    /// A failed attempt may rightly have no entry: a rule of this host may have dropped its packets and the entry with
    /// them, or the peer refused it, after which the kernel drops the entry at once.
    fn on_missing(&self, conn: &ConnRef) {
        // Before the handshake is complete, the entry may be gone because the peer refused the connection. That of a UDP
        // socket goes when nothing is sent for a while.
        if conn.was_answered() && !conn.is_udp() {
            conn.conntrack_lost();
        }
        let had_entry = conn.known_conntrack(|_| ()).is_some();
        let is_unexpected = || conn.was_answered() || (conn.timed_out() && !self.found_any);
        if !had_entry && is_unexpected() {
            self.state.problems.report(ConntrackProblem::NotTracked);
        }
    }
}

/// Returns `true` if both are the same entry, the second some time later. The kernel may reuse an identifier.
fn is_same_entry(known: &ConntrackEntry, later: &ConntrackEntry) -> bool {
    has_same_origin(known, later)
        && known.packets_sent <= later.packets_sent
        && known.packets_recv <= later.packets_recv
}

/// Returns `true` if both have the same identifier and begin. Its counters may have been reset meanwhile.
fn has_same_origin(known: &ConntrackEntry, later: &ConntrackEntry) -> bool {
    known.id == later.id && known.start_at == later.start_at
}

/// Closes the queue however the thread ends, so that nobody waits for it.
struct CloseQueueGuard<'a>(&'a ProbeState);

impl Drop for CloseQueueGuard<'_> {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Timestamp;

    #[test]
    fn an_entry_of_another_connection_is_recognised() {
        let entry = |id, packets_sent, start: u8| {
            let start_at = Timestamp::from_unix_nanos(start.into());
            ConntrackEntry { id: Some(id), packets_sent, start_at, ..ConntrackEntry::default() }
        };
        let known = entry(1, 5, 9);
        assert!(is_same_entry(&known, &entry(1, 5, 9)) && is_same_entry(&known, &entry(1, 7, 9)));
        for other in [entry(2, 7, 9), entry(1, 4, 9), entry(1, 7, 10)] {
            assert!(!is_same_entry(&known, &other));
        }
    }
}
