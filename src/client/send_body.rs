//! The body of a request on its way to the connection: may have to wait, and says when it was sent.

use crate::error::BoxError;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU8,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// Keeps a body back until the server says `100 Continue`, or does not in time (RFC 9110 section 10.1.1). When it
/// gives its final answer instead, the body is not sent at all, as it may not want it.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    shared: Arc<Shared>,
    timeout: Duration,
}

#[derive(Debug)]
struct Shared {
    state: AtomicU8,
    waker: AtomicWaker,
}

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
/// The final answer is being read: neither the body nor its failure may disturb that.
const HELD: u8 = 2;
const REFUSED: u8 = 3;

impl Gate {
    pub(super) fn new(timeout: Duration) -> Self {
        let shared = Shared { state: AtomicU8::new(CLOSED), waker: AtomicWaker::new() };
        Gate { shared: Arc::new(shared), timeout }
    }

    /// The server wants the body.
    pub(super) fn open(&self) {
        let _ = self.shared.change(CLOSED, OPEN);
    }

    /// The server gave its final answer; the drop of what is returned says that it was read. `None` when the body
    /// is on its way already.
    pub(super) fn refuse(self) -> Option<Refusal> {
        self.shared.change(CLOSED, HELD).then_some(Refusal(self.shared))
    }
}

impl Shared {
    fn change(&self, from: u8, to: u8) -> bool {
        let changed = self.state.compare_exchange(from, to, AcqRel, Acquire).is_ok();
        if changed {
            self.waker.wake();
        }
        changed
    }
}

/// Ends a body that the server did not want, and its connection, which cannot be used again.
#[derive(Debug)]
pub(super) struct Refusal(Arc<Shared>);

impl Drop for Refusal {
    fn drop(&mut self) {
        self.0.change(HELD, REFUSED);
    }
}

/// Becomes true once, and wakes the one who waits for that.
#[derive(Debug, Default)]
struct Flag {
    set: AtomicBool,
    waker: AtomicWaker,
}

impl Flag {
    fn set(&self) {
        self.set.store(true, Release);
        self.waker.wake();
    }

    fn poll(&self, cx: &mut Context<'_>) -> bool {
        self.set.load(Acquire) || {
            self.waker.register(cx.waker());
            self.set.load(Acquire)
        }
    }
}

/// Whether a request was sent whole.
#[derive(Debug, Default)]
pub(super) struct Sent(Flag);

impl Sent {
    pub(super) fn new(already: bool) -> Arc<Self> {
        let sent = Arc::<Sent>::default();
        sent.0.set.store(already, Release);
        sent
    }

    pub(super) fn poll(&self, cx: &mut Context<'_>) -> bool {
        self.0.poll(cx)
    }
}

pin_project! {
    #[derive(Debug)]
    pub struct SendBody<B> {
        #[pin]
        inner: B,
        waiting: Option<Box<Waiting>>,
        sent: Option<Arc<Sent>>,
    }
}

#[derive(Debug)]
struct Waiting {
    gate: Gate,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B: Body> SendBody<B> {
    pub(super) fn new(inner: B, gate: Option<Gate>, sent: Option<Arc<Sent>>) -> Self {
        let waiting = gate.map(|gate| Box::new(Waiting { gate, timer: None }));
        SendBody { inner, waiting, sent }
    }

    /// The body itself.
    pub(super) fn get_ref(&self) -> &B {
        &self.inner
    }
}

impl Waiting {
    /// True when the body may be sent, false when it must not be.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let shared = &self.gate.shared;
        shared.waker.register(cx.waker());
        match shared.state.load(Acquire) {
            OPEN => return Poll::Ready(true),
            REFUSED => return Poll::Ready(false),
            HELD => return Poll::Pending,
            _ => {}
        }
        let timeout = self.gate.timeout;
        ready!(self.timer.get_or_insert_with(|| Box::pin(sleep(timeout))).as_mut().poll(cx));
        if shared.change(CLOSED, OPEN) || shared.state.load(Acquire) == OPEN {
            Poll::Ready(true)
        } else {
            Poll::Pending
        }
    }
}

/// The server answered without having asked for the body.
#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server answered without having asked for the body")
    }
}

impl Error for Refused {}

impl<B: Body> Body for SendBody<B>
where
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        if let Some(waiting) = this.waiting {
            if !ready!(waiting.poll(cx)) {
                return Poll::Ready(Some(Err(Refused.into())));
            }
            *this.waiting = None;
        }
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        if (frame.is_none() || this.inner.is_end_stream())
            && let Some(sent) = this.sent.take()
        {
            sent.0.set();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
