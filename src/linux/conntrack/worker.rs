//! The thread that asks the kernel.

use super::{
    Shared,
    entry::{Flow, Found},
    problem::ConntrackProblem,
    queue::{Batch, Event},
    table::Table,
};
use crate::{
    record::{ConntrackEntry, TcpState},
    sink::ConnRef,
};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// Looks at connections for as long as anybody wants it to.
pub(super) struct Worker {
    table: Table,
    shared: Arc<Shared>,
    /// For [`refresh`](crate::TraceSink::refresh). Some have ended since.
    open: Vec<ConnRef>,
    /// How many of them had not when they were last counted.
    were_open: usize,
    /// Those that are to be looked at again, for each of [`AFTER_CLOSE`], the first to come first.
    closed: [VecDeque<Closed>; AFTER_CLOSE.len()],
    found_any: bool,
}

struct Closed {
    conn: ConnRef,
    due: Instant,
}

/// How long after a close, and then after the look that follows, the kernel is asked again. The goodbyes of TCP take
/// a round trip or two; what is over stays in the table for 10 s and more, as the kernel is by default.
const AFTER_CLOSE: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(900)];
/// How many may wait for each of these looks; beyond that the first come early.
const MOST_CLOSED: usize = 4096;
/// The last look, for which the sink's close waits, takes no longer.
const LAST_LOOK: Duration = Duration::from_millis(200);

/// Nothing more is to be asked.
struct Off;

impl Worker {
    pub(super) fn new(table: Table, shared: Arc<Shared>) -> Self {
        let (open, were_open, closed) = Default::default();
        Worker { table, shared, open, were_open, closed, found_any: false }
    }

    pub(super) fn run(mut self) {
        let shared = self.shared.clone();
        let _at_the_end = AtTheEnd(&shared);
        let mut batch = Batch::default();
        loop {
            shared.queue.wait(self.due(), &mut batch);
            let looked = self.look_at(&mut batch);
            for waiting in batch.waiting.drain(..) {
                // Nobody may wait for it any more.
                let _ = waiting.send(());
            }
            if looked.is_err() || batch.stopped {
                return;
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        self.closed.iter().filter_map(|closed| closed.front()).map(|closed| closed.due).min()
    }

    fn look_at(&mut self, batch: &mut Batch) -> Result<(), Off> {
        let last = batch.stopped.then(|| Instant::now() + LAST_LOOK);
        let has_time = || last.is_none_or(|last| Instant::now() < last);
        for (conn, event) in batch.events.drain(..).take_while(|_| has_time()) {
            self.heard(conn, event, batch.stopped)?;
        }
        if batch.stopped || !batch.waiting.is_empty() {
            let closed = self.closed.iter().flatten().map(|closed| &closed.conn);
            let all: Vec<ConnRef> = self.open.iter().chain(closed).cloned().collect();
            for conn in all.iter().take_while(|_| has_time()) {
                self.look(conn)?;
            }
        }
        self.look_at_due()?;
        if self.open.len() > 2 * self.were_open + 64 || self.due().is_none() {
            self.open.retain(ConnRef::is_open);
            self.were_open = self.open.len();
        }
        Ok(())
    }

    fn heard(&mut self, conn: ConnRef, event: Event, is_last: bool) -> Result<(), Off> {
        match event {
            // Else its close comes next. It would not where the sink was closed.
            Event::Opened if conn.is_open() || conn.is_of_closed_sink() || is_last => {
                self.look(&conn)?;
                self.open.push(conn);
            }
            Event::Opened => {}
            Event::Failed => {
                self.look(&conn)?;
            }
            Event::Closing => {
                let state = self.look(&conn)?;
                self.look_later(conn, state, 0)?;
            }
        }
        Ok(())
    }

    fn look_at_due(&mut self) -> Result<(), Off> {
        let now = Instant::now();
        for stage in 0..AFTER_CLOSE.len() {
            while self.closed[stage].front().is_some_and(|closed| closed.due <= now)
                && let Some(closed) = self.closed[stage].pop_front()
            {
                let state = self.look(&closed.conn)?;
                self.look_later(closed.conn, state, stage + 1)?;
            }
        }
        Ok(())
    }

    /// Unless TCP has sent its last, or is not what it is.
    fn look_later(&mut self, conn: ConnRef, state: TcpState, stage: usize) -> Result<(), Off> {
        let is_over = matches!(state, TcpState::None | TcpState::TimeWait | TcpState::Close);
        let Some(delay) = AFTER_CLOSE.get(stage).filter(|_| !is_over) else { return Ok(()) };
        self.closed[stage].push_back(Closed { conn, due: Instant::now() + *delay });
        if self.closed[stage].len() > MOST_CLOSED
            && let Some(first) = self.closed[stage].pop_front()
        {
            self.look(&first.conn)?;
        }
        Ok(())
    }

    /// Gives back the state of TCP, as far as it is known.
    fn look(&mut self, conn: &ConnRef) -> Result<TcpState, Off> {
        // The kernel hears of a UDP socket with its first packet.
        let Some(flow) = Flow::of(conn).filter(|_| conn.was_used()) else { return Ok(TcpState::None) };
        match self.table.entry(&flow) {
            Ok(Some(found)) => return Ok(self.found(conn, found)),
            Ok(None) => self.missing(conn),
            Err(problem @ ConntrackProblem::Unavailable(_)) => self.shared.problems.tell(problem),
            Err(problem) => {
                self.shared.problems.tell(problem);
                return Err(Off);
            }
        }
        Ok(TcpState::None)
    }

    fn found(&mut self, conn: &ConnRef, Found { entry, has_counters, has_timestamps }: Found) -> TcpState {
        self.found_any = true;
        if !has_counters {
            self.shared.problems.tell(ConntrackProblem::NoCounters);
        }
        if !has_timestamps {
            self.shared.problems.tell(ConntrackProblem::NoTimestamps);
        }
        // As long as it is open no other connection can have its addresses.
        let is_its_own =
            conn.is_open() || conn.known_conntrack(|known| continues(known, &entry)).unwrap_or(true);
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
            self.shared.problems.tell(ConntrackProblem::NotTracked);
        }
    }
}

/// Whether that is the same entry, some time later. The kernel may give an identifier again.
fn continues(known: &ConntrackEntry, now: &ConntrackEntry) -> bool {
    let counted = |entry: &ConntrackEntry| [entry.packets_sent, entry.packets_recv];
    let counts_on = counted(known).iter().zip(counted(now)).all(|(known, now)| *known <= now);
    known.id == now.id && known.start_at == now.start_at && counts_on
}

/// Nothing is queued any more, and nobody waits, however the worker ends.
struct AtTheEnd<'a>(&'a Shared);

impl Drop for AtTheEnd<'_> {
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
        assert!(continues(&known, &of(1, 5, 9)) && continues(&known, &of(1, 7, 9)));
        for other in [of(2, 7, 9), of(1, 4, 9), of(1, 7, 10)] {
            assert!(!continues(&known, &other));
        }
    }
}
