//! What the traffic hands to the worker.

use crate::{sink::ConnRef, sync::IgnorePoison};
use std::{
    mem,
    sync::{Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Opened,
    Failed,
    Closing,
}

/// Bounded: what does not fit is left out. The lock is held for moments only.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<(ConnRef, Event)>,
    waiting: Vec<oneshot::Sender<()>>,
    /// The worker waits for a first event; for those after it, until their time has come.
    is_idle: bool,
    /// There were many events in the last batch.
    is_busy: bool,
    stopped: bool,
}

/// What there is to do.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) events: Vec<(ConnRef, Event)>,
    /// Those who wait until everything was looked at.
    pub(super) waiting: Vec<oneshot::Sender<()>>,
    pub(super) stopped: bool,
}

/// How many events may wait. Half as many are taken out at once.
const MOST: usize = 4096;
/// How long the first event of a batch waits for others: to wake the worker for each would cost the traffic more
/// than all else.
const GATHER: Duration = Duration::from_millis(10);
/// How long events gather behind a batch of so many.
const GATHER_BUSY: Duration = Duration::from_millis(50);
const BUSY: usize = 16;

impl Queue {
    /// False when it is full.
    pub(super) fn push(&self, conn: &ConnRef, event: Event) -> bool {
        let wake = {
            let mut state = self.state();
            if state.stopped {
                return true;
            }
            if state.events.len() >= MOST {
                return false;
            }
            state.events.push((conn.clone(), event));
            mem::take(&mut state.is_idle) || state.events.len() == MOST / 2
        };
        if wake {
            self.wake.notify_one();
        }
        true
    }

    /// Resolves when everything was looked at; `None` when nothing will be any more.
    pub(super) fn refresh(&self) -> Option<oneshot::Receiver<()>> {
        let (looked, waiting) = oneshot::channel();
        {
            let mut state = self.state();
            if state.stopped {
                return None;
            }
            state.waiting.push(looked);
        }
        self.wake.notify_one();
        Some(waiting)
    }

    pub(super) fn stop(&self) {
        self.state().stopped = true;
        self.wake.notify_one();
    }

    /// Nobody takes anything out any more.
    pub(super) fn end(&self) {
        let left = {
            let mut state = self.state();
            state.stopped = true;
            (mem::take(&mut state.events), mem::take(&mut state.waiting))
        };
        // Not under the lock: with a connection the sink may go, and with that the probe, which stops this.
        drop(left);
    }

    /// Waits until there is something to do, at most until `due`.
    pub(super) fn wait(&self, due: Option<Instant>, batch: &mut Batch) {
        let mut state = self.state();
        let soonest = |gather: Duration| {
            let gathered = Instant::now() + gather;
            Some(due.map_or(gathered, |due| due.min(gathered)))
        };
        let mut gathering = state.is_busy;
        let mut until = if gathering { soonest(GATHER_BUSY) } else { due };
        loop {
            if !gathering && !state.events.is_empty() {
                gathering = true;
                until = soonest(GATHER);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let is_urgent = !state.waiting.is_empty() || state.events.len() >= MOST / 2;
            if state.stopped || is_urgent || left == Some(Duration::ZERO) {
                break;
            }
            state.is_idle = !gathering;
            state = match left {
                Some(left) => self.wake.wait_timeout(state, left).ignore_poison().0,
                None => self.wake.wait(state).ignore_poison(),
            };
        }
        state.is_idle = false;
        state.is_busy = state.events.len() >= BUSY;
        mem::swap(&mut state.events, &mut batch.events);
        mem::swap(&mut state.waiting, &mut batch.waiting);
        batch.stopped = state.stopped;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().ignore_poison()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TraceSink;

    fn conn(sink: &TraceSink) -> ConnRef {
        let attempt = sink.dial(|| "a.test:80".into()).attempt(([127, 0, 0, 1], 80).into());
        attempt.connected(|| None).conn_ref().unwrap().clone()
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let (queue, mut batch) = (Queue::default(), Batch::default());
        let conn = conn(&TraceSink::new());
        assert!((0..MOST).all(|_| queue.push(&conn, Event::Opened)));
        assert!(!queue.push(&conn, Event::Closing));
        queue.wait(None, &mut batch);
        assert!(batch.events.len() == MOST && batch.waiting.is_empty() && !batch.stopped);
        assert!(queue.push(&conn, Event::Closing), "there is room again");
    }

    /// Nobody has to wake it.
    #[test]
    fn behind_many_events_it_looks_for_more() {
        let (queue, mut batch) = (Queue::default(), Batch::default());
        let conn = conn(&TraceSink::new());
        assert!((0..BUSY).all(|_| queue.push(&conn, Event::Opened)));
        queue.wait(None, &mut batch);
        assert_eq!(batch.events.drain(..).len(), BUSY);
        queue.wait(None, &mut batch);
        assert!(batch.events.is_empty() && !queue.state().is_busy, "none came meanwhile");
        queue.push(&conn, Event::Opened);
        queue.wait(None, &mut batch);
        assert!(batch.events.len() == 1 && !queue.state().is_busy);
    }

    #[test]
    fn it_is_over_when_it_was_stopped() {
        let (queue, mut batch) = (Queue::default(), Batch::default());
        let conn = conn(&TraceSink::new());
        queue.push(&conn, Event::Opened);
        let waiting = queue.refresh().unwrap();
        queue.stop();
        assert!(queue.refresh().is_none() && queue.push(&conn, Event::Closing));
        queue.wait(None, &mut batch);
        assert!(batch.stopped && batch.events.len() == 1 && batch.waiting.len() == 1);
        drop(batch);
        assert!(waiting.blocking_recv().is_err(), "who waits hears of it");
    }

    /// With the last connection the sink goes, with that the probe, which stops the queue.
    #[test]
    fn what_is_left_goes_outside_the_lock() {
        struct Stops(std::sync::Arc<Queue>);
        impl Drop for Stops {
            fn drop(&mut self) {
                self.0.stop();
            }
        }
        impl crate::Probe for Stops {}
        let queue = std::sync::Arc::new(Queue::default());
        let sink = TraceSink::builder().probe(Stops(queue.clone())).build();
        queue.push(&conn(&sink), Event::Opened);
        drop(sink);
        queue.end();
        assert!(queue.state().stopped && std::sync::Arc::strong_count(&queue) == 1);
    }
}
