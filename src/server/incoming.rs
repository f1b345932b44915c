//! Accepted connections as a stream.

use super::Accept;
use futures_util::Stream;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

/// A stream of the connections of a listener. Never ends. Created by
/// [`TraceListener::incoming`](super::TraceListener::incoming).
#[derive(Debug)]
pub struct Incoming<A>(A);

impl<A: Accept> Incoming<A> {
    pub(crate) fn new(mut accept: A) -> Self {
        accept.default_to_tonic();
        Incoming(accept)
    }
}

impl<A> Incoming<A> {
    /// Returns a reference to the listener.
    pub fn get_ref(&self) -> &A {
        &self.0
    }
}

impl<A: Accept + Unpin> Stream for Incoming<A> {
    type Item = io::Result<A::Io>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_accept(cx).map(|accepted| Some(accepted.map(|(io, _)| io)))
    }
}
