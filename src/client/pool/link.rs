//! The use of a connection by one exchange.

use super::{Outgoing, control::Control, host::Host};
use futures_util::future::Either;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use std::{fmt, future::poll_fn, sync::Arc};

/// A connection that can take a request. Over HTTP/1 it is the only one: its drop closes the connection.
pub(super) struct Link {
    sender: Sender,
    pub(super) control: Arc<Control>,
    pub(super) host: Arc<Host>,
    /// Had been used before, or by others: a request that it did not begin can be made again elsewhere.
    pub(super) is_reused: bool,
}

enum Sender {
    Http1(http1::SendRequest<Outgoing>),
    Http2 {
        sender: http2::SendRequest<Outgoing>,
        /// One of many: counted as long as this lives.
        _stream: Stream,
    },
}

impl Link {
    pub(super) fn http1(
        sender: http1::SendRequest<Outgoing>,
        control: Arc<Control>,
        host: Arc<Host>,
    ) -> Self {
        Link { sender: Sender::Http1(sender), control, host, is_reused: false }
    }

    /// The host has counted the stream already.
    pub(super) fn http2(
        sender: http2::SendRequest<Outgoing>,
        control: Arc<Control>,
        host: Arc<Host>,
        is_reused: bool,
    ) -> Self {
        let _stream = Stream { host: host.clone(), control: control.clone() };
        Link { sender: Sender::Http2 { sender, _stream }, control, host, is_reused }
    }

    pub(super) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2 { .. })
    }

    /// Whether it can take a request just now.
    pub(super) fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2 { sender, .. } => sender.is_ready(),
        }
    }

    /// Hands the request to the connection. It comes back with the error when the connection did not begin it.
    pub(super) fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Outgoing>>>> + use<> {
        match &mut self.sender {
            Sender::Http1(sender) => Either::Left(sender.try_send_request(request)),
            Sender::Http2 { sender, .. } => Either::Right(sender.try_send_request(request)),
        }
    }

    /// The exchange is over: the next may have the connection. `was_read` says that the response was read to its
    /// end, after which a connection that can be used again is ready soon.
    pub(super) fn finish(self, was_read: bool) {
        if self.is_http2() {
            return; // shared all the time
        }
        if self.is_ready() {
            self.host.clone().release(self);
            return;
        }
        // The rest of the request is still on its way, or the rest of the response is read by nobody: it may
        // become ready, or turn out to be of no more use.
        if let Some(pool) = self.host.pool() {
            let control = self.control.clone();
            pool.tasks.spawn_on(self.settle(was_read), &control.runtime);
        }
    }

    async fn settle(mut self, was_read: bool) {
        let _returning = was_read.then(|| self.host.returning());
        let ready = match &mut self.sender {
            Sender::Http1(sender) => poll_fn(|cx| sender.poll_ready(cx)).await.is_ok(),
            Sender::Http2 { .. } => false,
        };
        if ready {
            self.host.clone().release(self);
        }
    }

    /// The connection becomes another protocol's. Its sender must stay until it has done so.
    pub(super) fn hand_over(self) {
        let (Some(pool), Sender::Http1(mut sender)) = (self.host.pool(), self.sender) else { return };
        let handed_over = async move {
            // An error is the end of HTTP on this connection.
            let _ = poll_fn(|cx| sender.poll_ready(cx)).await;
        };
        pool.tasks.spawn_on(handed_over, &self.control.runtime);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.control.fmt(f)
    }
}

/// A stream of a shared connection. Its drop may leave the connection idle.
struct Stream {
    host: Arc<Host>,
    control: Arc<Control>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.host.stream_ended(&self.control);
    }
}
