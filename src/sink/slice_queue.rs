//! Hands the slices of finished requests to receivers, off the path of the traffic.
//!
//! The thread that ends a request only adds a reference to it to a [`SliceQueue`]. The queue's own thread puts the slice
//! together and calls the [`SliceReceiver`]. It waits a moment for more before it does so, so that a busy program wakes
//! it a few times a second and not for each request. An idle program does not wake it at all.

use super::{
    slice::{Slice, SliceReceiver},
    slice_filter::{Choice, RequestOutcome, SliceFilter},
};
use crate::sync::IgnorePoison;
use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

/// How many requests wait at most. Those that come when the queue is full are counted, and not received.
const CAPACITY: usize = 4_096;

/// How long the thread waits for more requests before it hands over those that it has.
const LINGER: Duration = Duration::from_millis(50);

/// A receiver that has not been started.
pub(super) struct PendingReceiver {
    filter: SliceFilter,
    /// Nobody else has it: the lock makes the builder of a sink `Sync`.
    receiver: Mutex<Receiver>,
}

impl PendingReceiver {
    pub(super) fn new(filter: SliceFilter, receiver: Receiver) -> Self {
        PendingReceiver { filter, receiver: Mutex::new(receiver) }
    }
}

/// What is done with slices.
pub(super) enum Receiver {
    Receive(Box<dyn SliceReceiver>),
    /// The sink keeps those requests longer for whose slices this returns `true`.
    Keep(Box<KeepSlice>),
}

pub(super) type KeepSlice = dyn FnMut(&Slice) -> bool + Send;

/// The finished requests whose slices a receiver will be handed.
#[derive(Debug)]
pub(super) struct SliceQueue {
    filter: SliceFilter,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Signals the thread: a request came to an empty queue, or one to a half full one, or somebody cannot wait.
    awake: Condvar,
    /// Signals those that wait for the thread.
    handed_over: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// The number of requests that were ever added.
    added: u64,
    /// The number of requests whose slices were handed over and flushed.
    done: u64,
    /// The number of requests that came when the queue was full, and that the receiver has not been told of.
    lost: u64,
    /// The value of `added` up to which somebody waits.
    wanted: u64,
    is_closed: bool,
}

/// A request whose slice can be put together. The sink keeps it whole as long as this exists.
pub(super) trait PendingSlice: Send {
    /// Returns the slice; `None` if the sink has lost the request.
    fn slice(&self) -> Option<Slice>;
    /// Has the sink keep the request longer than others.
    fn choose(&self);
}

struct Waiting {
    request: Box<dyn PendingSlice>,
    choice: Choice,
}

impl SliceQueue {
    /// Starts the thread of a receiver. Returns `None` if the system has no thread left, which is logged.
    pub(super) fn start(pending: PendingReceiver) -> Option<Self> {
        let PendingReceiver { filter, receiver } = pending;
        let shared = Arc::new(Shared::default());
        let worker = Worker { shared: shared.clone(), receiver: receiver.into_inner().ignore_poison() };
        match thread::Builder::new().name("nettrace-slices".into()).spawn(move || worker.run()) {
            Ok(_) => Some(SliceQueue { filter, shared }),
            Err(error) => {
                tracing::warn!(target: "nettrace", "cannot start the thread of a receiver of slices: {error}");
                None
            }
        }
    }

    /// Returns whether the slice of a request is to be handed over.
    pub(super) fn choose(&self, request: &RequestOutcome<'_>) -> Choice {
        self.filter.choose(request)
    }

    /// Adds a request that is not [`Choice::Rejected`].
    pub(super) fn add(&self, request: Box<dyn PendingSlice>, choice: Choice) {
        let mut state = self.shared.state();
        if state.waiting.len() >= CAPACITY {
            state.lost += 1;
            return;
        }
        state.waiting.push_back(Waiting { request, choice });
        state.added += 1;
        let len = state.waiting.len();
        drop(state);
        if len == 1 || len == CAPACITY / 2 {
            self.shared.awake.notify_one();
        }
    }

    /// Waits until the receiver has the slices of all requests that ended before. Returns `false` if the deadline passes
    /// first, if there is one.
    pub(super) fn flush(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.shared.state();
        let target = state.added;
        state.wanted = state.wanted.max(target);
        self.shared.awake.notify_one();
        while state.done < target {
            let left = deadline.map_or(Some(Duration::MAX), |end| end.checked_duration_since(Instant::now()));
            let Some(left) = left else { return false };
            state = self.shared.handed_over.wait_timeout(state, left).ignore_poison().0;
        }
        true
    }
}

impl Drop for SliceQueue {
    /// Lets the thread end once it has handed over what waits.
    fn drop(&mut self) {
        self.shared.state().is_closed = true;
        self.shared.awake.notify_one();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().ignore_poison()
    }

    /// Waits for requests. Returns those that came in the order of their ends, with the number of lost ones; `None` if
    /// no more will come.
    fn next_batch(&self) -> Option<(VecDeque<Waiting>, u64)> {
        let is_idle = |state: &mut State| state.waiting.is_empty() && !state.is_closed;
        let mut state = self.awake.wait_while(self.state(), is_idle).ignore_poison();
        let may_linger = |state: &mut State| {
            state.waiting.len() < CAPACITY / 2 && !state.is_closed && state.wanted <= state.done
        };
        state = self.awake.wait_timeout_while(state, LINGER, may_linger).ignore_poison().0;
        if state.waiting.is_empty() {
            return None;
        }
        Some((std::mem::take(&mut state.waiting), std::mem::take(&mut state.lost)))
    }

    fn batch_done(&self, requests: u64) {
        self.state().done += requests;
        self.handed_over.notify_all();
    }
}

/// What the thread of a receiver has.
struct Worker {
    shared: Arc<Shared>,
    receiver: Receiver,
}

impl Worker {
    fn run(mut self) {
        while let Some((batch, lost)) = self.shared.next_batch() {
            let len = batch.len() as u64;
            for waiting in batch {
                if let Some(slice) = chosen_slice(&waiting) {
                    self.hand_over(slice, &*waiting.request);
                }
            }
            self.batch_ended(lost);
            self.shared.batch_done(len);
        }
    }

    fn hand_over(&mut self, slice: Slice, request: &dyn PendingSlice) {
        contain_panic(|| match &mut self.receiver {
            Receiver::Receive(receiver) => receiver.receive(slice),
            Receiver::Keep(keep) => {
                if keep(&slice) {
                    request.choose();
                }
            }
        });
    }

    fn batch_ended(&mut self, lost: u64) {
        let Receiver::Receive(receiver) = &mut self.receiver else { return };
        if lost > 0 {
            contain_panic(|| receiver.lost(lost));
        }
        contain_panic(|| receiver.flush());
    }
}

fn contain_panic(call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::warn!(target: "nettrace", "a receiver of slices panicked");
    }
}

/// Returns the slice of a request, if the receiver is to have it.
fn chosen_slice(waiting: &Waiting) -> Option<Slice> {
    let slice = waiting.request.slice()?;
    match waiting.choice {
        Choice::Chosen => Some(slice),
        #[cfg(feature = "explain")]
        Choice::IfExplained => slice.explain().is_some().then_some(slice),
        Choice::Rejected => None,
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("choice", &self.choice).finish_non_exhaustive()
    }
}

impl fmt::Debug for PendingReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingReceiver").field("filter", &self.filter).finish_non_exhaustive()
    }
}
