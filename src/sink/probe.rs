//! [`Probe`]: something that looks at the sockets of traced connections.

use super::conn::conn_ref::ConnRef;
use crate::record::ConntrackEntry;
use std::{
    any::Any,
    future::{Future, poll_fn},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::Poll,
};

/// A socket lent to a probe for the duration of a call.
#[cfg(unix)]
pub type ProbeSocket<'a> = std::os::fd::BorrowedFd<'a>;
/// A socket lent to a probe for the duration of a call.
#[cfg(windows)]
pub type ProbeSocket<'a> = std::os::windows::io::BorrowedSocket<'a>;

/// The event for which a probe is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProbeEvent {
    /// The handshake is complete.
    Connected,
    /// The attempt failed or was abandoned; the socket is about to be closed.
    ConnectFailed,
    /// The first byte came from the peer.
    FirstByte,
    /// A request on the connection failed, timed out or was given up. Over HTTP/2, others may go on.
    ///
    /// Linux only, with one of the features `tcp-info` and `conntrack`.
    RequestFailed,
    /// A request on the connection has made no progress for the time that
    /// [`TraceSinkBuilder::stalled_after`](super::TraceSinkBuilder::stalled_after) sets.
    ///
    /// Linux only, with one of the features `tcp-info` and `conntrack`.
    Stalled,
    /// The connection is about to be closed from this side.
    Closing,
}

/// Looks at the sockets of connections that this crate opens or accepts: conntrack entries, TCP health, packets.
///
/// The calls are on the path of the traffic: take what must be taken from the socket, and leave the rest to a worker of
/// your own. A call for [`RequestFailed`](ProbeEvent::RequestFailed) or [`Stalled`](ProbeEvent::Stalled) may come while
/// the owner of the socket closes it, which is delayed until the call returns. Panics are contained.
pub trait Probe: Any + Send + Sync {
    /// Called before a TCP socket is connected to `remote`.
    fn before_connect(&self, socket: ProbeSocket<'_>, remote: SocketAddr) {
        let _ = (socket, remote);
    }

    /// Called when the handshake with `remote` has begun: the SYN was sent, and the answer may be there already.
    fn connecting(&self, socket: ProbeSocket<'_>, remote: SocketAddr) {
        let _ = (socket, remote);
    }

    /// Called when something happened to a connection.
    fn event(&self, conn: &ConnRef, event: ProbeEvent, socket: ProbeSocket<'_>) {
        let _ = (conn, event, socket);
    }

    /// Called before a connector of another crate connects. Its sockets are not available.
    fn before_foreign_connect(&self) {}

    /// Called when a connector of another crate has connected. The addresses are known if it reports them.
    fn foreign_connected(&self, conn: &ConnRef) {
        let _ = conn;
    }

    /// Called before a connection of another crate's connector is closed.
    fn foreign_closing(&self, conn: &ConnRef) {
        let _ = conn;
    }

    /// Called when another probe found a connection in the kernel's connection tracking: the entry has the addresses
    /// that its packets carry beyond a NAT.
    ///
    /// May be called more than once for a connection, and after [`close`](Self::close), while the other probe is being
    /// closed.
    fn conntrack(&self, conn: &ConnRef, entry: &ConntrackEntry) {
        let _ = (conn, entry);
    }

    /// Looks again, because a trace is about to be taken. Awaited by [`TraceSink::refresh`](super::TraceSink::refresh).
    fn refresh(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }

    /// Forgets what was found so far, because the sink starts anew.
    fn clear(&self) {}

    /// Stops, because the sink was closed.
    fn close(&self) {}
}

/// Calls a probe, and contains its panics: the traffic must not suffer from them.
pub(super) fn catch_panic<R: Default>(call: impl FnOnce() -> R) -> R {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        tracing::warn!(target: "nettrace", "a probe panicked");
        R::default()
    })
}

/// Awaits [`Probe::refresh`].
pub(super) async fn refresh_probe(probe: &dyn Probe) {
    let Some(mut refresh) = catch_panic(|| Some(probe.refresh())) else { return };
    poll_fn(|cx| {
        let polled = catch_panic(|| Some(refresh.as_mut().poll(cx)));
        polled.unwrap_or(Poll::Ready(()))
    })
    .await;
}
