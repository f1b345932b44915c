//! Waits for conditions with a deadline, so that a test whose condition never holds fails with a message instead of
//! hanging.

use std::fmt::Display;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use tokio::task::yield_now;

/// How long a condition may take. Far more than it needs, for busy machines.
const LIMIT: Duration = Duration::from_secs(20);

/// The deadline of a loop that waits for something. It uses the system's clock, because the test may have paused
/// tokio's.
pub struct Deadline {
    end: Instant,
    what: String,
    caller: &'static Location<'static>,
}

impl Deadline {
    /// Starts to wait for `what`: `"two connections"`.
    #[track_caller]
    pub fn new(what: impl Display) -> Self {
        Self { end: Instant::now() + LIMIT, what: what.to_string(), caller: Location::caller() }
    }

    /// Panics if the deadline is over. The message names what was awaited, and where.
    pub fn check(&self) {
        assert!(Instant::now() < self.end, "{}: waited {LIMIT:?} in vain for {}", self.caller, self.what);
    }
}

/// Lets other tasks run until the condition holds.
///
/// # Panics
///
/// If this takes longer than 20 seconds.
#[track_caller]
pub fn until(what: impl Display, mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    until_some(what, move || condition().then_some(()))
}

/// Lets other tasks run until there is a value, and returns it.
///
/// # Panics
///
/// If this takes longer than 20 seconds.
#[track_caller]
pub fn until_some<T>(what: impl Display, mut value: impl FnMut() -> Option<T>) -> impl Future<Output = T> {
    let deadline = Deadline::new(what);
    async move {
        loop {
            if let Some(value) = value() {
                return value;
            }
            deadline.check();
            yield_now().await;
        }
    }
}

/// Polls the future and lets other tasks run until the condition holds.
///
/// # Panics
///
/// If the future completes first, or this takes longer than 20 seconds.
#[track_caller]
pub fn polling_until<F: Future>(
    what: impl Display,
    mut future: Pin<&mut F>,
    mut condition: impl FnMut() -> bool,
) -> impl Future<Output = ()> {
    let deadline = Deadline::new(what);
    async move {
        while !condition() {
            deadline.check();
            let is_pending =
                std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await;
            assert!(is_pending, "{}: the future completed before {}", deadline.caller, deadline.what);
            yield_now().await;
        }
    }
}

/// Blocks the thread until the condition holds.
///
/// # Panics
///
/// If this takes longer than 20 seconds.
#[track_caller]
pub fn until_blocking(what: impl Display, mut condition: impl FnMut() -> bool) {
    let deadline = Deadline::new(what);
    while !condition() {
        deadline.check();
        thread::yield_now();
    }
}

/// Returns the output of a future that never waits.
///
/// # Panics
///
/// If it waits.
#[track_caller]
pub fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("nothing here waits"),
    }
}

/// Lets every task of the runtime run that can.
pub async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

/// Returns the number of tasks of the current runtime that have not ended.
///
/// # Panics
///
/// Outside a runtime.
pub fn alive_tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}
