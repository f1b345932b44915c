//! The thread that asks the kernel.

use super::{
    Shared,
    entry::ParsedEntry,
    problem::ConntrackProblem,
    queue::{Batch, Event},
    table::{MAX_BATCH, QueryResult, Table},
    tuple::Tuple,
};
use crate::{
    record::{ConntrackEntry, TcpState},
    sink::ConnRef,
};
use smallvec::SmallVec;
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Looks at connections for as long as anybody wants it to.
pub(super) struct Worker {
    table: Table,
    shared: Arc<Shared>,
    /// For [`refresh`](crate::TraceSink::refresh). Some have ended since.
    open: Vec<ConnRef>,
    /// How many of them had not when they were last counted.
    open_at_last_sweep: usize,
    /// Those that are to be queried again, for each of [`REQUERY_DELAYS`], the first to come first.
    closed: [VecDeque<Closed>; REQUERY_DELAYS.len()],
    /// Calls of `refresh` that wait until TCP has ended.
    refreshes: Vec<Refresh>,
    /// The next look on their behalf.
    refresh_poll: Option<RefreshPoll>,
    found_any: bool,
}

struct Closed {
    conn: ConnRef,
    /// When the close was heard of.
    at: Instant,
    due: Instant,
}

impl Closed {
    /// Returns `true` if its last packets may still be on their way.
    fn is_settling(&self, now: Instant) -> bool {
        now < self.at + SETTLE_TIMEOUT
    }
}

/// A call of [`TraceSink::refresh`](crate::TraceSink::refresh). It waits for connections that were closed before it.
struct Refresh {
    begin: Instant,
    done: oneshot::Sender<()>,
}

#[derive(Clone, Copy)]
struct RefreshPoll {
    due: Instant,
    /// The time since the look before. It doubles from look to look.
    pause: Duration,
}

/// A connection to look at, and what is to become of it then.
type Query = (ConnRef, FollowUp);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FollowUp {
    None,
    TrackOpen,
    /// Query again when it is due, unless this look shows that TCP has ended. `stage` is an index into [`REQUERY_DELAYS`].
    QueryAgain {
        stage: usize,
        closed_at: Instant,
        due: Instant,
    },
}

/// How long after a close, and then after the look that follows, the kernel is asked again. The goodbyes of TCP take
/// a round trip or two; what is over stays in the table for 10 s and more, as the kernel is by default.
const REQUERY_DELAYS: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(900)];
/// How long a refresh waits for the last packets of a connection after its close.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(200);
/// The pause before the first look on behalf of a refresh that waits, and the longest one.
const POLL_INTERVALS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(16)];
/// How many may wait for each of these queries when the next batch is looked at; beyond that the first come early.
const MAX_CLOSED_PER_STAGE: usize = 4096;
/// The last look, for which the sink's close waits, takes no longer.
const FINAL_QUERY_TIMEOUT: Duration = Duration::from_millis(200);

/// Nothing more is to be asked.
struct Disabled;

impl Worker {
    pub(super) fn new(table: Table, shared: Arc<Shared>) -> Self {
        let (open, open_at_last_sweep, closed, refreshes) = Default::default();
        Worker {
            table,
            shared,
            open,
            open_at_last_sweep,
            closed,
            refreshes,
            refresh_poll: None,
            found_any: false,
        }
    }

    pub(super) fn run(mut self) {
        let shared = self.shared.clone();
        let _guard = CloseQueue(&shared);
        let mut batch = Batch::default();
        loop {
            shared.queue.wait(self.due(), &mut batch);
            let now = Instant::now();
            if self.run_batch(&mut batch, now).is_err() || batch.stopped {
                // Whoever waits for a look hears that there will be none.
                return;
            }
            self.refreshed(batch.refreshes.drain(..), now);
        }
    }

    fn due(&self) -> Option<Instant> {
        let closed = self.closed.iter().filter_map(|closed| closed.front()).map(|closed| closed.due);
        closed.chain(self.refresh_poll.map(|refresh_poll| refresh_poll.due)).min()
    }

    fn run_batch(&mut self, batch: &mut Batch, now: Instant) -> Result<(), Disabled> {
        let last = batch.stopped.then(|| now + FINAL_QUERY_TIMEOUT);
        let heard = batch
            .events
            .drain(..)
            .filter_map(|(conn, event)| query_for_event(conn, event, now, last.is_some()));
        let due = self.take_due(now);
        // Those that were closed first come first: what is put back stays in order.
        let mut queries = Vec::new();
        if batch.stopped || !batch.refreshes.is_empty() {
            queries.extend(self.open.iter().map(|conn| (conn.clone(), FollowUp::None)));
            self.take_closed(|_| true, &mut queries);
        } else if self.refresh_poll.is_some_and(|refresh_poll| refresh_poll.due <= now) {
            self.take_closed(|closed| closed.is_settling(now), &mut queries);
        }
        queries.extend(due);
        queries.extend(heard);
        for queries in queries.chunks(MAX_BATCH).take_while(|_| last.is_none_or(|last| Instant::now() < last))
        {
            self.query(queries)?;
        }
        if self.open.len() > 2 * self.open_at_last_sweep + 64 || self.due().is_none() {
            self.open.retain(ConnRef::is_open);
            self.open_at_last_sweep = self.open.len();
        }
        Ok(())
    }

    fn take_due(&mut self, now: Instant) -> Vec<Query> {
        let mut queries = Vec::new();
        for (stage, closed) in self.closed.iter_mut().enumerate() {
            let is_due = |closed: &VecDeque<Closed>| {
                closed.len() > MAX_CLOSED_PER_STAGE || closed.front().is_some_and(|closed| closed.due <= now)
            };
            while is_due(closed)
                && let Some(Closed { conn, at, .. }) = closed.pop_front()
            {
                queries.push((conn, requery(stage + 1, at, now)));
            }
        }
        queries
    }

    /// Takes out closed connections, the latest of those that wait for the same look, to put back what has not ended.
    fn take_closed(&mut self, is_wanted: impl Fn(&Closed) -> bool, queries: &mut Vec<Query>) {
        for (stage, closed) in self.closed.iter_mut().enumerate() {
            let first = closed.partition_point(|closed| !is_wanted(closed));
            let taken = closed.drain(first..);
            queries.extend(
                taken.map(|Closed { conn, at, due }| {
                    (conn, FollowUp::QueryAgain { stage, closed_at: at, due })
                }),
            );
        }
    }

    /// Answers the refreshes for which every connection that was closed before them has sent its last packet, or had
    /// [`SETTLE_TIMEOUT`] to do so. Plans the next look for the others.
    fn refreshed(&mut self, waiting: impl Iterator<Item = oneshot::Sender<()>>, now: Instant) {
        self.refreshes.extend(waiting.map(|done| Refresh { begin: now, done }));
        let settling = self.closed.iter().flatten().filter(|closed| closed.is_settling(now));
        let first_closed = settling.map(|closed| closed.at).min();
        let is_answered = |refresh: &mut Refresh| first_closed.is_none_or(|closed| closed > refresh.begin);
        for refresh in self.refreshes.extract_if(.., is_answered) {
            // Nobody may wait for it any more.
            let _ = refresh.done.send(());
        }
        let pause = match self.refresh_poll {
            Some(refresh_poll) if refresh_poll.due > now => return,
            Some(refresh_poll) => POLL_INTERVALS[1].min(2 * refresh_poll.pause),
            None => POLL_INTERVALS[0],
        };
        self.refresh_poll = (!self.refreshes.is_empty()).then_some(RefreshPoll { due: now + pause, pause });
    }

    /// At some of them, [`MAX_BATCH`] at most.
    fn query(&mut self, queries: &[Query]) -> Result<(), Disabled> {
        let mut tuples: SmallVec<[Tuple; MAX_BATCH]> = SmallVec::new();
        let mut asked: SmallVec<[&Query; MAX_BATCH]> = SmallVec::new();
        for query in queries {
            // The kernel hears of a UDP socket with its first packet.
            match Tuple::of(&query.0).filter(|_| query.0.was_used()) {
                Some(tuple) => {
                    tuples.push(tuple);
                    asked.push(query);
                }
                None => self.done(query, true),
            }
        }
        for (query, result) in asked.into_iter().zip(self.table.query(&tuples)) {
            let is_final = self.on_result(&query.0, result)?;
            self.done(query, is_final);
        }
        Ok(())
    }

    /// True when nothing more will come of it: TCP has sent its last, or there is no TCP, or no entry.
    fn on_result(&mut self, conn: &ConnRef, result: QueryResult) -> Result<bool, Disabled> {
        match result {
            Ok(Some(found)) => {
                let state = self.found(conn, found);
                Ok(matches!(state, TcpState::None | TcpState::TimeWait | TcpState::Close))
            }
            Ok(None) => {
                self.missing(conn);
                Ok(true)
            }
            Err(problem) => {
                let for_now = matches!(problem, ConntrackProblem::Unavailable(_));
                self.shared.problems.report(problem);
                if for_now { Ok(false) } else { Err(Disabled) }
            }
        }
    }

    fn done(&mut self, (conn, follow_up): &Query, is_final: bool) {
        match *follow_up {
            FollowUp::None => {}
            FollowUp::TrackOpen => self.open.push(conn.clone()),
            FollowUp::QueryAgain { stage, closed_at, due } => {
                if !is_final {
                    self.closed[stage].push_back(Closed { conn: conn.clone(), at: closed_at, due });
                }
            }
        }
    }

    fn found(
        &mut self,
        conn: &ConnRef,
        ParsedEntry { entry, has_counters, has_timestamps }: ParsedEntry,
    ) -> TcpState {
        self.found_any = true;
        if !has_counters {
            self.shared.problems.report(ConntrackProblem::NoCounters);
        }
        if !has_timestamps {
            self.shared.problems.report(ConntrackProblem::NoTimestamps);
        }
        // As long as it is open no other connection can have its addresses.
        let is_its_own =
            conn.is_open() || conn.known_conntrack(|known| is_same_entry(known, &entry)).unwrap_or(true);
        if !is_its_own {
            return TcpState::None;
        }
        let state = entry.tcp_state.clone();
        conn.conntrack(entry);
        state
    }

    /// Where an attempt failed, a rule of this host may have thrown away its packets and the entry with them, or the
    /// peer refused it: then the kernel drops the entry at once.
    fn missing(&self, conn: &ConnRef) {
        let had_one = conn.known_conntrack(|_| ()).is_some();
        let is_odd = || conn.was_answered() || (conn.timed_out() && !self.found_any);
        if !had_one && is_odd() {
            self.shared.problems.report(ConntrackProblem::NotTracked);
        }
    }
}

/// `now` is the same for all that were heard of together, so that they are due together.
fn query_for_event(conn: ConnRef, event: Event, now: Instant, is_last: bool) -> Option<Query> {
    match event {
        // Else its close comes next. It would not where the sink was closed.
        Event::Opened => {
            let is_wanted = conn.is_open() || conn.is_of_closed_sink() || is_last;
            is_wanted.then_some((conn, FollowUp::TrackOpen))
        }
        Event::Failed => Some((conn, FollowUp::None)),
        Event::Closing => Some((conn, requery(0, now, now))),
    }
}

/// Returns what follows a query about a connection that was queried `stage` times since its close.
fn requery(stage: usize, closed_at: Instant, now: Instant) -> FollowUp {
    match REQUERY_DELAYS.get(stage) {
        Some(delay) => FollowUp::QueryAgain { stage, closed_at, due: now + *delay },
        None => FollowUp::None,
    }
}

/// Whether that is the same entry, some time later. The kernel may give an identifier again.
fn is_same_entry(known: &ConntrackEntry, now: &ConntrackEntry) -> bool {
    let counted = |entry: &ConntrackEntry| [entry.packets_sent, entry.packets_recv];
    let counts_on = counted(known).iter().zip(counted(now)).all(|(known, now)| *known <= now);
    known.id == now.id && known.start_at == now.start_at && counts_on
}

/// Nothing is queued any more, and nobody waits, however the worker ends.
struct CloseQueue<'a>(&'a Shared);

impl Drop for CloseQueue<'_> {
    fn drop(&mut self) {
        self.0.queue.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Timestamp;

    #[test]
    fn an_entry_that_another_connection_made_is_another() {
        let of = |id, packets_sent, start: u8| {
            let start_at = Timestamp::from_unix_nanos(start.into());
            ConntrackEntry { id: Some(id), packets_sent, start_at, ..ConntrackEntry::default() }
        };
        let known = of(1, 5, 9);
        assert!(is_same_entry(&known, &of(1, 5, 9)) && is_same_entry(&known, &of(1, 7, 9)));
        for other in [of(2, 7, 9), of(1, 4, 9), of(1, 7, 10)] {
            assert!(!is_same_entry(&known, &other));
        }
    }
}
