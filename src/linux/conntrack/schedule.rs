//! Decides when the kernel is asked about which connection.
//!
//! A state machine without I/O and without a clock: the [worker](super::worker) tells it the time, what happened to
//! connections and which of them have sent their last packet, and gets the queries that are due.

use super::queue::{Batch, Event};
use crate::sink::ConnRef;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// How long after a close, and then after the query that follows, the kernel is asked again. Closing takes TCP a round
/// trip or two; the kernel keeps what has ended for 10 s and more by default.
const REQUERY_DELAYS: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(900)];
/// How long a refresh waits for the last packets of a connection after its close.
const SETTLE_TIMEOUT: Duration = Duration::from_millis(200);
/// The pause before the first query on behalf of a refresh that waits. It doubles from query to query.
const MIN_POLL_INTERVAL: Duration = Duration::from_millis(1);
/// The longest such pause.
const MAX_POLL_INTERVAL: Duration = Duration::from_millis(16);
/// The most connections that wait for each of [`REQUERY_DELAYS`]. Beyond that the first are queried early.
const MAX_CLOSED_PER_STAGE: usize = 4096;

/// When each connection is queried next.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// Connections that a refresh queries. Some have ended since.
    open: Vec<ConnRef>,
    /// How many there were after the last removal of those that have ended.
    open_at_last_sweep: usize,
    /// For each of [`REQUERY_DELAYS`] the connections that wait for it, in the order of their times.
    closed: [VecDeque<ClosedConn>; REQUERY_DELAYS.len()],
    /// Refreshes that wait until TCP has ended.
    refreshes: Vec<Refresh>,
    /// The next query on their behalf.
    refresh_poll: Option<RefreshPoll>,
}

#[derive(Debug)]
struct ClosedConn {
    conn: ConnRef,
    closed_at: Instant,
    due: Instant,
}

impl ClosedConn {
    /// Returns `true` if the last packets may still be on their way.
    fn is_settling(&self, now: Instant) -> bool {
        now < self.closed_at + SETTLE_TIMEOUT
    }
}

/// A call of [`TraceSink::refresh`](crate::TraceSink::refresh), which waits for connections that were closed before it.
#[derive(Debug)]
struct Refresh {
    begin: Instant,
    done: oneshot::Sender<()>,
}

#[derive(Clone, Copy, Debug)]
struct RefreshPoll {
    due: Instant,
    /// The time since the query before.
    interval: Duration,
}

/// A connection to query, and what comes after that.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) conn: ConnRef,
    follow_up: FollowUp,
}

/// The step that follows a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FollowUp {
    Nothing,
    /// Refreshes query the connection from now on.
    TrackOpen,
    /// It is queried again when that is due, unless it has sent its last packet. `stage` is an index into
    /// [`REQUERY_DELAYS`].
    QueryAgain {
        stage: usize,
        closed_at: Instant,
        due: Instant,
    },
}

impl Schedule {
    /// Returns when the next query is due.
    pub(super) fn due(&self) -> Option<Instant> {
        let closed = self.closed.iter().filter_map(|closed| closed.front()).map(|closed| closed.due);
        closed.chain(self.refresh_poll.map(|poll| poll.due)).min()
    }

    /// Returns the queries that are due at `now`, and those that follow from the events of the batch, which it takes.
    ///
    /// Connections that were closed first come first, so that what is put back stays in order.
    pub(super) fn queries(&mut self, batch: &mut Batch, now: Instant) -> Vec<Query> {
        let due = self.take_due(now);
        let mut queries = Vec::new();
        if batch.stopped || !batch.refreshes.is_empty() {
            let open = self.open.iter().cloned();
            queries.extend(open.map(|conn| Query { conn, follow_up: FollowUp::Nothing }));
            self.take_closed(|_| true, &mut queries);
        } else if self.refresh_poll.is_some_and(|poll| poll.due <= now) {
            self.take_closed(|closed| closed.is_settling(now), &mut queries);
        }
        queries.extend(due);
        let is_last = batch.stopped;
        let events = batch.events.drain(..);
        queries.extend(events.filter_map(|(conn, event)| query_for_event(conn, event, now, is_last)));
        queries
    }

    fn take_due(&mut self, now: Instant) -> Vec<Query> {
        let mut queries = Vec::new();
        for (stage, closed) in self.closed.iter_mut().enumerate() {
            let is_due = |closed: &VecDeque<ClosedConn>| {
                closed.len() > MAX_CLOSED_PER_STAGE || closed.front().is_some_and(|closed| closed.due <= now)
            };
            while is_due(closed)
                && let Some(ClosedConn { conn, closed_at, .. }) = closed.pop_front()
            {
                queries.push(Query { conn, follow_up: query_again(stage + 1, closed_at, now) });
            }
        }
        queries
    }

    /// Takes out closed connections, the latest of those that wait for the same query, to be put back if they have not
    /// ended.
    fn take_closed(&mut self, is_wanted: impl Fn(&ClosedConn) -> bool, queries: &mut Vec<Query>) {
        for (stage, closed) in self.closed.iter_mut().enumerate() {
            let first = closed.partition_point(|closed| !is_wanted(closed));
            queries.extend(closed.drain(first..).map(|ClosedConn { conn, closed_at, due }| Query {
                conn,
                follow_up: FollowUp::QueryAgain { stage, closed_at, due },
            }));
        }
    }

    /// Notes that a query was answered. `has_ended` says that nothing more will come of the connection.
    pub(super) fn on_answer(&mut self, query: &Query, has_ended: bool) {
        let conn = &query.conn;
        match query.follow_up {
            FollowUp::Nothing => {}
            FollowUp::TrackOpen => self.open.push(conn.clone()),
            FollowUp::QueryAgain { stage, closed_at, due } => {
                if !has_ended {
                    self.closed[stage].push_back(ClosedConn { conn: conn.clone(), closed_at, due });
                }
            }
        }
    }

    /// Removes connections that have ended, if there may be many, or nothing else is left to do.
    pub(super) fn sweep(&mut self) {
        if self.open.len() > 2 * self.open_at_last_sweep + 64 || self.due().is_none() {
            self.open.retain(ConnRef::is_open);
            self.open_at_last_sweep = self.open.len();
        }
    }

    /// Adds refreshes, and answers those for which every connection that was closed before them has sent its last
    /// packet, or had [`SETTLE_TIMEOUT`] to do so. Plans the next query for the others.
    pub(super) fn answer_refreshes(
        &mut self,
        refreshes: impl Iterator<Item = oneshot::Sender<()>>,
        now: Instant,
    ) {
        self.refreshes.extend(refreshes.map(|done| Refresh { begin: now, done }));
        let settling = self.closed.iter().flatten().filter(|closed| closed.is_settling(now));
        let first_closed = settling.map(|closed| closed.closed_at).min();
        let is_answered = |refresh: &mut Refresh| first_closed.is_none_or(|closed| closed > refresh.begin);
        for refresh in self.refreshes.extract_if(.., is_answered) {
            // The receiver may be gone.
            let _ = refresh.done.send(());
        }
        let interval = match self.refresh_poll {
            Some(poll) if poll.due > now => return,
            Some(poll) => MAX_POLL_INTERVAL.min(2 * poll.interval),
            None => MIN_POLL_INTERVAL,
        };
        self.refresh_poll =
            (!self.refreshes.is_empty()).then_some(RefreshPoll { due: now + interval, interval });
    }
}

/// Returns the query that follows from an event. `now` is the same for all events of a batch, so that they are due
/// together.
fn query_for_event(conn: ConnRef, event: Event, now: Instant, is_last: bool) -> Option<Query> {
    let follow_up = match event {
        // If it has ended, its close is the next event, unless the sink was closed.
        Event::Opened if conn.is_open() || conn.is_of_closed_sink() || is_last => FollowUp::TrackOpen,
        Event::Opened => return None,
        Event::Failed | Event::RequestFailed => FollowUp::Nothing,
        Event::Closing => query_again(0, now, now),
    };
    Some(Query { conn, follow_up })
}

/// Returns what follows a query about a connection that was queried `stage` times since its close.
fn query_again(stage: usize, closed_at: Instant, now: Instant) -> FollowUp {
    match REQUERY_DELAYS.get(stage) {
        Some(delay) => FollowUp::QueryAgain { stage, closed_at, due: now + *delay },
        None => FollowUp::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TraceSink;

    /// Handles the events, answers the queries, and returns how many queries there were.
    fn step(
        schedule: &mut Schedule,
        events: impl IntoIterator<Item = (ConnRef, Event)>,
        refreshes: Vec<oneshot::Sender<()>>,
        now: Instant,
        has_ended: bool,
    ) -> usize {
        let mut batch = Batch { events: events.into_iter().collect(), refreshes, stopped: false };
        let queries = schedule.queries(&mut batch, now);
        queries.iter().for_each(|query| schedule.on_answer(query, has_ended));
        schedule.sweep();
        schedule.answer_refreshes(batch.refreshes.drain(..), now);
        queries.len()
    }

    fn conn(sink: &TraceSink) -> ConnRef {
        let attempt = sink.dial(|| "a.test:80".into()).attempt(([127, 0, 0, 1], 80).into());
        attempt.connected(|| None).conn_ref().unwrap().clone()
    }

    #[test]
    fn a_closed_connection_is_queried_again_after_each_delay() {
        let (mut schedule, conn) = (Schedule::default(), conn(&TraceSink::new()));
        let begin = Instant::now();
        assert_eq!(step(&mut schedule, [(conn, Event::Closing)], vec![], begin, false), 1);
        let mut times = Vec::new();
        while let Some(due) = schedule.due() {
            times.push(due - begin);
            assert_eq!(step(&mut schedule, [], vec![], due - Duration::from_nanos(1), false), 0);
            assert_eq!(step(&mut schedule, [], vec![], due, false), 1);
        }
        assert_eq!(times, [Duration::from_millis(100), Duration::from_secs(1)]);
    }

    #[test]
    fn an_ended_connection_is_not_queried_again() {
        let (mut schedule, sink) = (Schedule::default(), TraceSink::new());
        let events = [Event::Closing, Event::Failed].map(|event| (conn(&sink), event));
        assert_eq!(step(&mut schedule, events, vec![], Instant::now(), true), 2);
        assert_eq!(schedule.due(), None);
    }

    #[test]
    fn the_opening_of_an_ended_connection_is_not_queried() {
        let (mut schedule, conn) = (Schedule::default(), conn(&TraceSink::new()));
        assert!(!conn.is_open());
        assert_eq!(step(&mut schedule, [(conn, Event::Opened)], vec![], Instant::now(), false), 0);
    }

    #[test]
    fn a_refresh_waits_for_connections_that_closed_before_it() {
        let (mut schedule, sink) = (Schedule::default(), TraceSink::new());
        let begin = Instant::now();
        step(&mut schedule, [(conn(&sink), Event::Closing)], vec![], begin, false);
        let (done, mut waiting) = oneshot::channel();
        let refreshed = begin + Duration::from_millis(2);
        assert_eq!(step(&mut schedule, [], vec![done], refreshed, false), 1);
        let mut pauses = Vec::new();
        let mut now = refreshed;
        while waiting.try_recv().is_err() {
            let due = schedule.due().expect("a refresh is waiting");
            pauses.push((due - now).as_millis());
            now = due;
            step(&mut schedule, [], vec![], now, false);
        }
        assert_eq!(pauses[..6], [1, 2, 4, 8, 16, 16]);
        assert!(now - begin >= SETTLE_TIMEOUT && now - begin < SETTLE_TIMEOUT + MAX_POLL_INTERVAL);
        // Once the connections have settled, a refresh is answered at once.
        let (done, mut waiting) = oneshot::channel();
        step(&mut schedule, [], vec![done], now, true);
        assert!(waiting.try_recv().is_ok());
    }

    #[test]
    fn too_many_closed_connections_are_queried_early() {
        let (mut schedule, conn) = (Schedule::default(), conn(&TraceSink::new()));
        let now = Instant::now();
        let events = vec![(conn, Event::Closing); MAX_CLOSED_PER_STAGE + 3];
        step(&mut schedule, events, vec![], now, false);
        assert_eq!(step(&mut schedule, [], vec![], now, false), 3);
    }
}
