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
pub(super) struct EventQueue {
    state: Mutex<QueueState>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    events: Vec<(ConnRef, Event)>,
    refreshes: Vec<oneshot::Sender<()>>,
    /// The worker waits for a first event; for those after it, until their time has come.
    worker_is_idle: bool,
    /// There were many events in the last batch.
    is_busy: bool,
    stopped: bool,
}

/// What there is to do.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) events: Vec<(ConnRef, Event)>,
    /// Those who wait until everything was looked at.
    pub(super) refreshes: Vec<oneshot::Sender<()>>,
    pub(super) stopped: bool,
}

/// How many events may wait. Half as many are taken out at once.
const MAX_EVENTS: usize = 4096;
/// How long the first event of a batch waits for others: to wake the worker for each would cost the traffic more
/// than all else.
const COALESCE_INTERVAL: Duration = Duration::from_millis(10);
/// How long events gather behind a batch of so many.
const BUSY_COALESCE_INTERVAL: Duration = Duration::from_millis(50);
const BUSY_EVENTS: usize = 16;

impl EventQueue {
    /// False when it is full.
    pub(super) fn push(&self, conn: &ConnRef, event: Event) -> bool {
        let wake = {
            let mut state = self.state();
            if state.stopped {
                return true;
            }
            if state.events.len() >= MAX_EVENTS {
                return false;
            }
            state.events.push((conn.clone(), event));
            mem::take(&mut state.worker_is_idle) || state.events.len() == MAX_EVENTS / 2
        };
        if wake {
            self.wake.notify_one();
        }
        true
    }

    /// Resolves when everything was looked at; `None` when nothing will be any more.
    pub(super) fn refresh(&self) -> Option<oneshot::Receiver<()>> {
        let (done, waiting) = oneshot::channel();
        {
            let mut state = self.state();
            if state.stopped {
                return None;
            }
            state.refreshes.push(done);
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
            (mem::take(&mut state.events), mem::take(&mut state.refreshes))
        };
        // Not under the lock: with a connection the sink may go, and with that the probe, which stops this.
        drop(left);
    }

    /// Waits until there is something to do, at most until `due`.
    pub(super) fn wait(&self, due: Option<Instant>, batch: &mut Batch) {
        let mut state = self.state();
        let soonest = |interval: Duration| {
            let coalesced = Instant::now() + interval;
            Some(due.map_or(coalesced, |due| due.min(coalesced)))
        };
        let mut is_coalescing = state.is_busy;
        let mut until = if is_coalescing { soonest(BUSY_COALESCE_INTERVAL) } else { due };
        loop {
            if !is_coalescing && !state.events.is_empty() {
                is_coalescing = true;
                until = soonest(COALESCE_INTERVAL);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let is_urgent = !state.refreshes.is_empty() || state.events.len() >= MAX_EVENTS / 2;
            if state.stopped || is_urgent || left == Some(Duration::ZERO) {
                break;
            }
            state.worker_is_idle = !is_coalescing;
            state = match left {
                Some(left) => self.wake.wait_timeout(state, left).ignore_poison().0,
                None => self.wake.wait(state).ignore_poison(),
            };
        }
        state.worker_is_idle = false;
        state.is_busy = state.events.len() >= BUSY_EVENTS;
        mem::swap(&mut state.events, &mut batch.events);
        mem::swap(&mut state.refreshes, &mut batch.refreshes);
        batch.stopped = state.stopped;
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
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
        let (queue, mut batch) = (EventQueue::default(), Batch::default());
        let conn = conn(&TraceSink::new());
        assert!((0..MAX_EVENTS).all(|_| queue.push(&conn, Event::Opened)));
        assert!(!queue.push(&conn, Event::Closing));
        queue.wait(None, &mut batch);
        assert!(batch.events.len() == MAX_EVENTS && batch.refreshes.is_empty() && !batch.stopped);
        assert!(queue.push(&conn, Event::Closing), "there is room again");
    }

    /// Nobody has to wake it.
    #[test]
    fn behind_many_events_it_looks_for_more() {
        let (queue, mut batch) = (EventQueue::default(), Batch::default());
        let conn = conn(&TraceSink::new());
        assert!((0..BUSY_EVENTS).all(|_| queue.push(&conn, Event::Opened)));
        queue.wait(None, &mut batch);
        assert_eq!(batch.events.drain(..).len(), BUSY_EVENTS);
        queue.wait(None, &mut batch);
        assert!(batch.events.is_empty() && !queue.state().is_busy, "none came meanwhile");
        queue.push(&conn, Event::Opened);
        queue.wait(None, &mut batch);
        assert!(batch.events.len() == 1 && !queue.state().is_busy);
    }

    #[test]
    fn it_is_over_when_it_was_stopped() {
        let (queue, mut batch) = (EventQueue::default(), Batch::default());
        let conn = conn(&TraceSink::new());
        queue.push(&conn, Event::Opened);
        let waiting = queue.refresh().unwrap();
        queue.stop();
        assert!(queue.refresh().is_none() && queue.push(&conn, Event::Closing));
        queue.wait(None, &mut batch);
        assert!(batch.stopped && batch.events.len() == 1 && batch.refreshes.len() == 1);
        drop(batch);
        assert!(waiting.blocking_recv().is_err(), "who waits hears of it");
    }

    /// With the last connection the sink goes, with that the probe, which stops the queue.
    #[test]
    fn what_is_left_goes_outside_the_lock() {
        struct Stops(std::sync::Arc<EventQueue>);
        impl Drop for Stops {
            fn drop(&mut self) {
                self.0.stop();
            }
        }
        impl crate::Probe for Stops {}
        let queue = std::sync::Arc::new(EventQueue::default());
        let sink = TraceSink::builder().probe(Stops(queue.clone())).build();
        queue.push(&conn(&sink), Event::Opened);
        drop(sink);
        queue.end();
        assert!(queue.state().stopped && std::sync::Arc::strong_count(&queue) == 1);
    }
}
