//! The body of a request as the connection gets it: it may have to wait for `100 Continue`, and reports when it was sent.

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
            AtomicU8,
            Ordering::{AcqRel, Acquire},
        },
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Sleep, sleep},
};

/// Holds a body back until the server says `100 Continue`, or has not in time (RFC 9110 section 10.1.1).
///
/// If the server responds finally instead, it may not want the body, which is not sent at all then.
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

/// The body has to wait.
const CLOSED: u8 = 0;
/// The body may be sent.
const OPEN: u8 = 1;
/// The final response is being read: neither the body nor its failure may disturb that.
const RESPONDED: u8 = 2;
/// The final response was read: the body fails.
const REFUSED: u8 = 3;

impl Gate {
    pub(super) fn new(timeout: Duration) -> Self {
        let shared = Shared { state: AtomicU8::new(CLOSED), waker: AtomicWaker::new() };
        Gate { shared: Arc::new(shared), timeout }
    }

    /// Lets the body pass: the server wants it.
    pub(super) fn open(&self) {
        let _ = self.shared.change(CLOSED, OPEN);
    }

    /// Holds the body back for good, as the server has responded finally. Drop the value returned when the response was
    /// read. Returns `None` if the body is on its way already.
    pub(super) fn refuse(self) -> Option<Refusal> {
        self.shared.change(CLOSED, RESPONDED).then_some(Refusal(self.shared))
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

/// Fails a body that the server did not want when this is dropped. That closes the connection, on which the server still
/// expects the body.
#[derive(Debug)]
pub(super) struct Refusal(Arc<Shared>);

impl Drop for Refusal {
    fn drop(&mut self) {
        self.0.change(RESPONDED, REFUSED);
    }
}

pin_project! {
    /// The body of a request that may have to wait at a [`Gate`].
    #[derive(Debug)]
    pub struct SendBody<B> {
        #[pin]
        inner: B,
        gated: Option<Box<Gated>>,
        // Told when the body was sent.
        sent: Option<oneshot::Sender<()>>,
    }
}

/// A body at its gate.
#[derive(Debug)]
struct Gated {
    gate: Gate,
    /// Created when the body is polled, which is after the header was sent.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B: Body> SendBody<B> {
    pub(super) fn new(inner: B, gate: Option<Gate>, sent: Option<oneshot::Sender<()>>) -> Self {
        let gated = gate.map(|gate| Box::new(Gated { gate, timer: None }));
        SendBody { inner, gated, sent }
    }

    /// Returns a reference to the body itself.
    pub(super) fn get_ref(&self) -> &B {
        &self.inner
    }
}

impl Gated {
    /// Resolves to `true` if the body may be sent, to `false` if it must not be.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let shared = &self.gate.shared;
        shared.waker.register(cx.waker());
        match shared.state.load(Acquire) {
            OPEN => return Poll::Ready(true),
            REFUSED => return Poll::Ready(false),
            RESPONDED => return Poll::Pending,
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

/// The error of a body that the server did not want.
#[derive(Debug)]
struct NotWanted;

impl fmt::Display for NotWanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server answered without having asked for the body")
    }
}

impl Error for NotWanted {}

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
        if let Some(gated) = this.gated {
            if !ready!(gated.poll(cx)) {
                return Poll::Ready(Some(Err(NotWanted.into())));
            }
            *this.gated = None;
        }
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        if (frame.is_none() || this.inner.is_end_stream())
            && let Some(sent) = this.sent.take()
        {
            let _ = sent.send(()); // an error means that nobody waits any more
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
