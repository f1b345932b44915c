//! Who waits for a connection, and what is offered to him.

use super::{host::Host, link::Link, place::Place};
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::oneshot;

pub(super) enum Offer {
    /// A connection.
    Use(Link),
    /// The turn to make one.
    Dial(Place),
}

/// An exchange that waits.
struct Waiter {
    offer: oneshot::Sender<Offer>,
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
pub(super) struct Queue(VecDeque<Waiter>);

impl Queue {
    pub(super) fn join(&mut self, host: Arc<Host>, needs_place: bool) -> Offers {
        // Those that left are cleared away where they would gather.
        while self.0.front().is_some_and(|waiter| waiter.offer.is_closed()) {
            self.0.pop_front();
        }
        if self.0.len() == self.0.capacity() {
            self.0.retain(|waiter| !waiter.offer.is_closed());
        }
        let (offer, receiver) = oneshot::channel();
        self.0.push_back(Waiter { offer, needs_place });
        Offers { receiver, host }
    }

    /// Gives the connection to the first; it comes back when there is nobody.
    pub(super) fn give(&mut self, mut link: Link) -> Option<Link> {
        while let Some(waiter) = self.0.pop_front() {
            match waiter.offer.send(Offer::Use(link)) {
                Ok(()) => return None,
                Err(Offer::Use(back)) => link = back,
                Err(Offer::Dial(_)) => unreachable!("what was offered comes back"),
            }
        }
        Some(link)
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
    pub(super) fn next_to_dial(&mut self) -> Option<oneshot::Sender<Offer>> {
        let index = self.0.iter().position(Waiter::waits_to_dial)?;
        self.0.remove(index).map(|waiter| waiter.offer)
    }
}

/// What is offered to one who waits. A connection that comes too late for him goes to the next.
pub(super) struct Offers {
    receiver: oneshot::Receiver<Offer>,
    host: Arc<Host>,
}

impl Offers {
    /// `None` when the client is closed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Offer>> {
        Pin::new(&mut self.receiver).poll(cx).map(Result::ok)
    }
}

impl Drop for Offers {
    fn drop(&mut self) {
        self.receiver.close();
        if let Ok(Offer::Use(link)) = self.receiver.try_recv()
            && !link.is_http2()
        {
            self.host.release(link);
        }
    }
}
