//! Who waits for a connection, and what is offered to him.

use super::{host::Host, permit::ConnPermit, pooled_conn::PooledConn};
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::oneshot;

pub(super) enum Grant {
    /// A connection.
    Use(PooledConn),
    /// The turn to make one.
    Dial(ConnPermit),
}

/// An exchange that waits.
struct Waiter {
    offer: oneshot::Sender<Grant>,
    /// It may not dial before it is told to.
    needs_place: bool,
}

impl Waiter {
    fn waits_to_dial(&self) -> bool {
        self.needs_place && !self.offer.is_closed()
    }
}

/// First come, first served.
#[derive(Default)]
pub(super) struct WaitQueue(VecDeque<Waiter>);

impl WaitQueue {
    pub(super) fn join(&mut self, host: Arc<Host>, needs_place: bool) -> GrantReceiver {
        // Those that left are cleared away where they would gather.
        while self.0.front().is_some_and(|waiter| waiter.offer.is_closed()) {
            self.0.pop_front();
        }
        if self.0.len() == self.0.capacity() {
            self.0.retain(|waiter| !waiter.offer.is_closed());
        }
        let (offer, receiver) = oneshot::channel();
        self.0.push_back(Waiter { offer, needs_place });
        GrantReceiver { receiver, host }
    }

    /// Gives the connection to the first; it comes back when there is nobody.
    pub(super) fn give(&mut self, mut conn: PooledConn) -> Option<PooledConn> {
        while let Some(waiter) = self.0.pop_front() {
            match waiter.offer.send(Grant::Use(conn)) {
                Ok(()) => return None,
                Err(Grant::Use(back)) => conn = back,
                Err(Grant::Dial(_)) => unreachable!("what was offered comes back"),
            }
        }
        Some(conn)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is one who may not dial yet.
    pub(super) fn has_one_to_dial(&self) -> bool {
        self.0.iter().any(Waiter::waits_to_dial)
    }

    /// The first who may not dial yet.
    pub(super) fn next_to_dial(&mut self) -> Option<oneshot::Sender<Grant>> {
        let index = self.0.iter().position(Waiter::waits_to_dial)?;
        self.0.remove(index).map(|waiter| waiter.offer)
    }
}

/// What is offered to one who waits. A connection that comes too late for him goes to the next.
pub(super) struct GrantReceiver {
    receiver: oneshot::Receiver<Grant>,
    host: Arc<Host>,
}

impl GrantReceiver {
    /// `None` when the client is closed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Grant>> {
        Pin::new(&mut self.receiver).poll(cx).map(Result::ok)
    }
}

impl Drop for GrantReceiver {
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(Grant::Use(conn)) = self.receiver.try_recv()
            && !conn.is_http2()
        {
            self.host.release(conn);
        }
    }
}
