//! The body of a request on its way to the connection: may have to wait, and says when it was sent.

use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// Keeps a body back until the server says `100 Continue`, or does not in time (RFC 9110 section 10.1.1).
#[derive(Clone, Debug)]
pub(super) struct Gate {
    open: Arc<Flag>,
    patience: Duration,
}

impl Gate {
    pub(super) fn new(patience: Duration) -> Self {
        Gate { open: Arc::default(), patience }
    }

    pub(super) fn open(&self) {
        self.open.set();
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
}

impl Waiting {
    /// Ready when the body may be sent.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.gate.open.poll(cx) {
            return Poll::Ready(());
        }
        let patience = self.gate.patience;
        self.timer.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(cx)
    }
}

impl<B: Body> Body for SendBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        if let Some(waiting) = this.waiting {
            ready!(waiting.poll(cx));
            *this.waiting = None;
        }
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        if (frame.is_none() || this.inner.is_end_stream())
            && let Some(sent) = this.sent.take()
        {
            sent.0.set();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
