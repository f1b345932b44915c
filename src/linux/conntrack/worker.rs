//! The thread that asks the kernel.

use super::{
    Shared,
    entry::{Flow, Found},
    problem::ConntrackProblem,
    queue::{Batch, Event},
    table::{Answer, TOGETHER, Table},
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
    were_open: usize,
    /// Those that are to be looked at again, for each of [`AFTER_CLOSE`], the first to come first.
    closed: [VecDeque<Closed>; AFTER_CLOSE.len()],
    /// Calls of `refresh` that wait until TCP has ended.
    refreshes: Vec<Refresh>,
    /// The next look on their behalf.
    relook: Option<Relook>,
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
        now < self.at + SETTLE
    }
}

/// A call of [`TraceSink::refresh`](crate::TraceSink::refresh). It waits for connections that were closed before it.
struct Refresh {
    begin: Instant,
    looked: oneshot::Sender<()>,
}

#[derive(Clone, Copy)]
struct Relook {
    due: Instant,
    /// The time since the look before. It doubles from look to look.
    pause: Duration,
}

/// A connection to look at, and what is to become of it then.
type Look = (ConnRef, Then);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Done,
    KeepOpen,
    /// Look again when it is due, unless this look shows that TCP has ended. `stage` is an index into [`AFTER_CLOSE`].
    LookLater {
        stage: usize,
        closed_at: Instant,
        due: Instant,
    },
}

/// How long after a close, and then after the look that follows, the kernel is asked again. The goodbyes of TCP take
/// a round trip or two; what is over stays in the table for 10 s and more, as the kernel is by default.
const AFTER_CLOSE: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(900)];
/// How long a refresh waits for the last packets of a connection after its close.
const SETTLE: Duration = Duration::from_millis(200);
/// The pause before the first look on behalf of a refresh that waits, and the longest one.
const RELOOK: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(16)];
/// How many may wait for each of these looks when the next batch is looked at; beyond that the first come early.
const MOST_CLOSED: usize = 4096;
/// The last look, for which the sink's close waits, takes no longer.
const LAST_LOOK: Duration = Duration::from_millis(200);

/// Nothing more is to be asked.
struct Off;

impl Worker {
    pub(super) fn new(table: Table, shared: Arc<Shared>) -> Self {
        let (open, were_open, closed, refreshes) = Default::default();
        Worker { table, shared, open, were_open, closed, refreshes, relook: None, found_any: false }
    }

    pub(super) fn run(mut self) {
        let shared = self.shared.clone();
        let _at_the_end = AtTheEnd(&shared);
        let mut batch = Batch::default();
        loop {
            shared.queue.wait(self.due(), &mut batch);
            let now = Instant::now();
            if self.look_at(&mut batch, now).is_err() || batch.stopped {
                // Whoever waits for a look hears that there will be none.
                return;
            }
            self.refreshed(batch.waiting.drain(..), now);
        }
    }

    fn due(&self) -> Option<Instant> {
        let closed = self.closed.iter().filter_map(|closed| closed.front()).map(|closed| closed.due);
        closed.chain(self.relook.map(|relook| relook.due)).min()
    }

    fn look_at(&mut self, batch: &mut Batch, now: Instant) -> Result<(), Off> {
        let last = batch.stopped.then(|| now + LAST_LOOK);
        let heard =
            batch.events.drain(..).filter_map(|(conn, event)| heard(conn, event, now, last.is_some()));
        let due = self.take_due(now);
        // Those that were closed first come first: what is put back stays in order.
        let mut looks = Vec::new();
        if batch.stopped || !batch.waiting.is_empty() {
            looks.extend(self.open.iter().map(|conn| (conn.clone(), Then::Done)));
            self.take_closed(|_| true, &mut looks);
        } else if self.relook.is_some_and(|relook| relook.due <= now) {
            self.take_closed(|closed| closed.is_settling(now), &mut looks);
        }
        looks.extend(due);
        looks.extend(heard);
        for looks in looks.chunks(TOGETHER).take_while(|_| last.is_none_or(|last| Instant::now() < last)) {
            self.look(looks)?;
        }
        if self.open.len() > 2 * self.were_open + 64 || self.due().is_none() {
            self.open.retain(ConnRef::is_open);
            self.were_open = self.open.len();
        }
        Ok(())
    }

    fn take_due(&mut self, now: Instant) -> Vec<Look> {
        let mut looks = Vec::new();
        for (stage, closed) in self.closed.iter_mut().enumerate() {
            let is_due = |closed: &VecDeque<Closed>| {
                closed.len() > MOST_CLOSED || closed.front().is_some_and(|closed| closed.due <= now)
            };
            while is_due(closed)
                && let Some(Closed { conn, at, .. }) = closed.pop_front()
            {
                looks.push((conn, later(stage + 1, at, now)));
            }
        }
        looks
    }

    /// Takes out closed connections, the latest of those that wait for the same look, to put back what has not ended.
    fn take_closed(&mut self, is_wanted: impl Fn(&Closed) -> bool, looks: &mut Vec<Look>) {
        for (stage, closed) in self.closed.iter_mut().enumerate() {
            let first = closed.partition_point(|closed| !is_wanted(closed));
            let taken = closed.drain(first..);
            looks.extend(
                taken.map(|Closed { conn, at, due }| (conn, Then::LookLater { stage, closed_at: at, due })),
            );
        }
    }

    /// Answers the refreshes for which every connection that was closed before them has sent its last packet, or had
    /// [`SETTLE`] to do so. Plans the next look for the others.
    fn refreshed(&mut self, waiting: impl Iterator<Item = oneshot::Sender<()>>, now: Instant) {
        self.refreshes.extend(waiting.map(|looked| Refresh { begin: now, looked }));
        let settling = self.closed.iter().flatten().filter(|closed| closed.is_settling(now));
        let first_closed = settling.map(|closed| closed.at).min();
        let is_answered = |refresh: &mut Refresh| first_closed.is_none_or(|closed| closed > refresh.begin);
        for refresh in self.refreshes.extract_if(.., is_answered) {
            // Nobody may wait for it any more.
            let _ = refresh.looked.send(());
        }
        let pause = match self.relook {
            Some(relook) if relook.due > now => return,
            Some(relook) => RELOOK[1].min(2 * relook.pause),
            None => RELOOK[0],
        };
        self.relook = (!self.refreshes.is_empty()).then_some(Relook { due: now + pause, pause });
    }

    /// At some of them, [`TOGETHER`] at most.
    fn look(&mut self, looks: &[Look]) -> Result<(), Off> {
        let mut flows: SmallVec<[Flow; TOGETHER]> = SmallVec::new();
        let mut asked: SmallVec<[&Look; TOGETHER]> = SmallVec::new();
        for look in looks {
            // The kernel hears of a UDP socket with its first packet.
            match Flow::of(&look.0).filter(|_| look.0.was_used()) {
                Some(flow) => {
                    flows.push(flow);
                    asked.push(look);
                }
                None => self.looked(look, true),
            }
        }
        for (look, answer) in asked.into_iter().zip(self.table.entries(&flows)) {
            let is_over = self.answered(&look.0, answer)?;
            self.looked(look, is_over);
        }
        Ok(())
    }

    /// True when nothing more will come of it: TCP has sent its last, or there is no TCP, or no entry.
    fn answered(&mut self, conn: &ConnRef, answer: Answer) -> Result<bool, Off> {
        match answer {
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
                self.shared.problems.tell(problem);
                if for_now { Ok(false) } else { Err(Off) }
            }
        }
    }

    fn looked(&mut self, (conn, then): &Look, is_over: bool) {
        match *then {
            Then::Done => {}
            Then::KeepOpen => self.open.push(conn.clone()),
            Then::LookLater { stage, closed_at, due } => {
                if !is_over {
                    self.closed[stage].push_back(Closed { conn: conn.clone(), at: closed_at, due });
                }
            }
        }
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

/// `now` is the same for all that were heard of together, so that they are due together.
fn heard(conn: ConnRef, event: Event, now: Instant, is_last: bool) -> Option<Look> {
    match event {
        // Else its close comes next. It would not where the sink was closed.
        Event::Opened => {
            let is_wanted = conn.is_open() || conn.is_of_closed_sink() || is_last;
            is_wanted.then_some((conn, Then::KeepOpen))
        }
        Event::Failed => Some((conn, Then::Done)),
        Event::Closing => Some((conn, later(0, now, now))),
    }
}

/// Returns what follows a query about a connection that was queried `stage` times since its close.
fn later(stage: usize, closed_at: Instant, now: Instant) -> Then {
    match AFTER_CLOSE.get(stage) {
        Some(delay) => Then::LookLater { stage, closed_at, due: now + *delay },
        None => Then::Done,
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
