//! The use of a connection by one exchange.

use super::{
    Outgoing,
    conn_handle::ConnHandle,
    host::{Host, Returning},
};
use futures_util::future::Either;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use std::{fmt, future::poll_fn, pin::pin, sync::Arc, time::Duration};
use tokio::time::timeout;

/// So long is waited for a connection whose response was read and that is not ready yet.
pub(super) const READY_GRACE: Duration = Duration::from_millis(5);

/// A connection that can take a request. Over HTTP/1 it is the only one: its drop closes the connection.
pub(in crate::client) struct PooledConn {
    sender: Sender,
    pub(super) handle: Arc<ConnHandle>,
    pub(in crate::client) host: Arc<Host>,
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

impl PooledConn {
    pub(super) fn http1(
        sender: http1::SendRequest<Outgoing>,
        handle: Arc<ConnHandle>,
        host: Arc<Host>,
    ) -> Self {
        PooledConn { sender: Sender::Http1(sender), handle, host, is_reused: false }
    }

    /// The host has counted the stream already.
    pub(super) fn http2(
        sender: http2::SendRequest<Outgoing>,
        handle: Arc<ConnHandle>,
        host: Arc<Host>,
        is_reused: bool,
    ) -> Self {
        let _stream = Stream { host: host.clone(), handle: handle.clone() };
        PooledConn { sender: Sender::Http2 { sender, _stream }, handle, host, is_reused }
    }

    pub(in crate::client) fn is_http2(&self) -> bool {
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
        let returning = was_read.then(|| self.host.returning());
        self.settles(returning);
    }

    /// The rest of the request is still on its way, or the rest of the response: it may become ready for others, or
    /// turn out to be of no more use.
    pub(super) fn settle(self) {
        self.settles(None);
    }

    fn settles(self, returning: Option<Returning>) {
        if let Some(pool) = self.host.pool() {
            let handle = self.handle.clone();
            pool.tasks.spawn_on(self.settled(returning), &handle.runtime);
        }
    }

    async fn settled(mut self, mut returning: Option<Returning>) {
        let Sender::Http1(sender) = &mut self.sender else { return };
        let mut ready = pin!(poll_fn(|cx| sender.poll_ready(cx)));
        let in_time = match returning {
            Some(_) => timeout(READY_GRACE, ready.as_mut()).await.ok(),
            None => None,
        };
        let is_ready = match in_time {
            Some(ready) => ready.is_ok(),
            None => {
                returning = None;
                ready.await.is_ok()
            }
        };
        if is_ready {
            self.host.clone().release(self);
        }
        drop(returning); // now that others have the connection
    }

    /// The connection becomes another protocol's. Its sender must stay until it has done so.
    pub(super) fn hand_over(self) {
        let (Some(pool), Sender::Http1(mut sender)) = (self.host.pool(), self.sender) else { return };
        let handed_over = async move {
            // An error is the end of HTTP on this connection.
            let _ = poll_fn(|cx| sender.poll_ready(cx)).await;
        };
        pool.tasks.spawn_on(handed_over, &self.handle.runtime);
    }
}

impl fmt::Debug for PooledConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

/// A stream of a shared connection. Its drop may leave the connection idle.
struct Stream {
    host: Arc<Host>,
    handle: Arc<ConnHandle>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.host.stream_ended(&self.handle);
    }
}
