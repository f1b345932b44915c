//! Those who look at the sockets of traced connections.

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

/// A socket lent to a probe for the time of a call.
#[cfg(unix)]
pub type ProbeSocket<'a> = std::os::fd::BorrowedFd<'a>;
/// A socket lent to a probe for the time of a call.
#[cfg(windows)]
pub type ProbeSocket<'a> = std::os::windows::io::BorrowedSocket<'a>;

/// What happened to the connection that a probe is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProbeEvent {
    /// The handshake is complete.
    Connected,
    /// The attempt failed or was given up; the socket is about to be closed.
    ConnectFailed,
    /// The first byte came from the peer.
    FirstByte,
    /// The connection is about to be closed from this side.
    Closing,
}

/// Looks at the sockets of connections that this crate opens or accepts: conntrack entries, TCP health, packets.
///
/// The calls come on the path of the traffic: take what must be taken from the socket and leave the rest to a
/// worker of your own. Panics are contained.
pub trait Probe: Any + Send + Sync {
    /// A TCP socket is about to be connected to `remote`.
    fn before_connect(&self, socket: ProbeSocket<'_>, remote: SocketAddr) {
        let _ = (socket, remote);
    }

    /// The handshake with `remote` has begun: the SYN was sent. The answer may be there already.
    fn connecting(&self, socket: ProbeSocket<'_>, remote: SocketAddr) {
        let _ = (socket, remote);
    }

    /// Something happened to a connection.
    fn event(&self, conn: &ConnRef, event: ProbeEvent, socket: ProbeSocket<'_>) {
        let _ = (conn, event, socket);
    }

    /// Somebody else's connector is about to connect to somewhere: nobody has its sockets.
    fn before_foreign_connect(&self) {}

    /// Somebody else's connector has connected. Its addresses are known if it tells them.
    fn foreign_connected(&self, conn: &ConnRef) {
        let _ = conn;
    }

    /// Such a connection is about to be closed.
    fn foreign_closing(&self, conn: &ConnRef) {
        let _ = conn;
    }

    /// Another probe found a connection in the kernel's connection tracking, perhaps not for the first time: the
    /// addresses that its packets carry elsewhere. It may do so while it is closed, and this one was closed before.
    fn conntrack(&self, conn: &ConnRef, entry: &ConntrackEntry) {
        let _ = (conn, entry);
    }

    /// Look again, now: a trace is about to be taken. Awaited by [`TraceSink::refresh`](super::TraceSink::refresh).
    fn refresh(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }

    /// The sink starts anew: forget what was found so far.
    fn clear(&self) {}

    /// The sink was closed: stop.
    fn close(&self) {}
}

/// Calls a probe. The traffic does not suffer from its panics.
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
