//! The queue through which connections reach the worker.
//!
//! A caller pays for a push under a lock that is held for moments; the worker is woken once for all events that follow
//! within [`COALESCE_INTERVAL`].

use crate::{sink::ConnRef, sync::IgnorePoison};
use std::{
    mem,
    sync::{Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// An event of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Opened,
    Failed,
    /// A request on it failed or has stalled.
    RequestFailed,
    Closing,
}

/// A bounded queue of events. Events that do not fit are dropped.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    state: Mutex<QueueState>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct QueueState {
    events: Vec<(ConnRef, Event)>,
    refreshes: Vec<oneshot::Sender<()>>,
    /// The worker sleeps until a first event comes, and not until a point in time.
    worker_is_idle: bool,
    /// The last batch had [`BUSY_EVENTS`] or more.
    is_busy: bool,
    stopped: bool,
}

/// The work that is due for the worker.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) events: Vec<(ConnRef, Event)>,
    /// Refreshes, which wait until all connections were queried.
    pub(super) refreshes: Vec<oneshot::Sender<()>>,
    /// The probe was stopped: this is the last batch.
    pub(super) stopped: bool,
}

/// The most events in the queue. The worker takes them out at once when there are half as many.
const MAX_EVENTS: usize = 4096;
/// How long the first event of a batch waits for others. Waking the worker for each event would cost the callers more
/// than everything else.
const COALESCE_INTERVAL: Duration = Duration::from_millis(10);
/// The same after a batch of [`BUSY_EVENTS`].
const BUSY_COALESCE_INTERVAL: Duration = Duration::from_millis(50);
/// How many events make a batch a large one.
const BUSY_EVENTS: usize = 16;

impl EventQueue {
    /// Adds an event. Returns `false` if the queue is full.
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

    /// Adds a refresh. Its channel is answered when all connections were queried; `None` if the probe was stopped.
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

    /// Has the worker take a last batch.
    pub(super) fn stop(&self) {
        self.state().stopped = true;
        self.wake.notify_one();
    }

    /// Drops what is in the queue, and refuses what comes later: the worker has ended.
    pub(super) fn close(&self) {
        let left = {
            let mut state = self.state();
            state.stopped = true;
            (mem::take(&mut state.events), mem::take(&mut state.refreshes))
        };
        // Not under the lock: the last connection may drop the sink, and with it the probe, which stops this queue.
        drop(left);
    }

    /// Waits until there is something to do, and no longer than until `due`, and fills `batch` with it.
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
    fn events_that_do_not_fit_are_dropped() {
        let (queue, mut batch) = (EventQueue::default(), Batch::default());
        let conn = conn(&TraceSink::new());
        assert!((0..MAX_EVENTS).all(|_| queue.push(&conn, Event::Opened)));
        assert!(!queue.push(&conn, Event::Closing));
        queue.wait(None, &mut batch);
        assert!(batch.events.len() == MAX_EVENTS && batch.refreshes.is_empty() && !batch.stopped);
        assert!(queue.push(&conn, Event::Closing), "there is room again");
    }

    #[test]
    fn after_a_large_batch_the_worker_does_not_wait_to_be_woken() {
        let (queue, mut batch) = (EventQueue::default(), Batch::default());
        let conn = conn(&TraceSink::new());
        assert!((0..BUSY_EVENTS).all(|_| queue.push(&conn, Event::Opened)));
        queue.wait(None, &mut batch);
        assert_eq!(batch.events.drain(..).len(), BUSY_EVENTS);
        queue.wait(None, &mut batch);
        assert!(batch.events.is_empty() && !queue.state().is_busy, "no event was added");
        queue.push(&conn, Event::Opened);
        queue.wait(None, &mut batch);
        assert!(batch.events.len() == 1 && !queue.state().is_busy);
    }

    #[test]
    fn a_stopped_queue_gives_a_last_batch() {
        let (queue, mut batch) = (EventQueue::default(), Batch::default());
        let conn = conn(&TraceSink::new());
        queue.push(&conn, Event::Opened);
        let waiting = queue.refresh().unwrap();
        queue.stop();
        assert!(queue.refresh().is_none() && queue.push(&conn, Event::Closing));
        queue.wait(None, &mut batch);
        assert!(batch.stopped && batch.events.len() == 1 && batch.refreshes.len() == 1);
        drop(batch);
        assert!(waiting.blocking_recv().is_err(), "the waiting refresh ends");
    }

    /// The last connection drops the sink, which drops the probe, which stops the queue and so takes its lock.
    #[test]
    fn events_are_dropped_outside_the_lock() {
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
        queue.close();
        assert!(queue.state().stopped && std::sync::Arc::strong_count(&queue) == 1);
    }
}
