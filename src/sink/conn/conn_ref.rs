//! References to the record of a connection: [`ConnRef`] for whoever uses the connection, [`ConnLink`] for a request.

use super::record::{ConnPath, ConnRecord};
#[cfg(feature = "_record_requests")]
use crate::error::FailureDetail;
#[cfg(feature = "tls")]
use crate::record::EndReason;
#[cfg(any(feature = "_record_requests", feature = "tls"))]
use crate::sink::core::Core;
use crate::{
    record::{Failure, TraceId},
    sink::{
        clock::Tick,
        dial::group::{ConnSlot, DialGroup, GroupState},
        record_id::RecordId,
    },
};
use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

/// Identity of a traced connection, the same for everything that uses it.
///
/// It is found in the extensions of a response ([`ConnRef::from_extensions`]), and in the stream of a traced connector
/// ([`ConnRef::of`]).
#[derive(Clone)]
pub struct ConnRef {
    pub(in crate::sink) group: Arc<DialGroup>,
    pub(super) slot: ConnSlot,
}

impl ConnRef {
    /// Returns the connections and attempts of a group, whose state is locked.
    pub(in crate::sink) fn all<'a>(
        group: &'a Arc<DialGroup>,
        state: &'a GroupState,
    ) -> impl Iterator<Item = ConnRef> + 'a {
        group.conn_slots(state).map(|slot| ConnRef { group: group.clone(), slot })
    }

    #[inline]
    pub(in crate::sink) fn record(&self) -> &ConnRecord {
        self.group.conn(&self.slot)
    }

    /// Returns the identifier of the connection in a trace; the empty one if only a TLS tunnel over a foreign stream is
    /// known.
    pub fn id(&self) -> TraceId {
        self.group.core.id(self.record_id())
    }

    /// Returns the address of this side, if it has one and it is known.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.record().local.get().copied()
    }

    /// Returns the address of the peer, if it has one and it is known.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.record().remote
    }

    pub(crate) fn record_id(&self) -> Option<RecordId> {
        self.record().id
    }

    /// Returns how long ago the connection, or the attempt at it, began.
    #[cfg(all(unix, feature = "capture"))]
    pub(crate) fn age(&self) -> std::time::Duration {
        let core = &self.group.core;
        core.clock.between(self.record().begin, core.now())
    }

    /// Returns `true` if the connection is recorded by the sink of `core`.
    #[cfg(any(feature = "_record_requests", feature = "tls"))]
    pub(in crate::sink) fn is_of(&self, core: &Arc<Core>) -> bool {
        Arc::ptr_eq(&self.group.core, core)
    }

    /// Records that a request was given the connection: over HTTP/1 the next byte is the first of its response.
    #[cfg(feature = "_record_requests")]
    pub(crate) fn await_first_byte(&self) {
        self.record().first_byte.expect();
    }

    /// Sets the reason to record when the connection is closed, unless an error ends it.
    #[cfg(feature = "tls")]
    pub(crate) fn set_close_reason(&self, reason: EndReason) {
        let _ = self.record().close_reason.set(reason);
    }

    /// Records that HTTP/2 will be spoken over the connection, by ALPN or by prior knowledge.
    #[cfg(feature = "_record_conns")]
    pub(crate) fn set_http2(&self) {
        self.record().http2.store(true, Relaxed);
    }

    /// Returns `true` if both refer to the same connection.
    #[cfg(feature = "tonic")]
    pub(crate) fn is_same(&self, other: &ConnRef) -> bool {
        std::ptr::eq(self.record(), other.record())
    }

    /// Records that the peer will send nothing more, as TLS above the connection has seen.
    #[cfg(all(feature = "server", feature = "tls"))]
    pub(crate) fn set_peer_closed(&self) {
        self.record().peer_closed.store(true, Relaxed);
    }

    /// Records that what is spoken over the connection from now on is protected with TLS.
    #[cfg(all(feature = "server", feature = "tls"))]
    pub(crate) fn set_secure(&self) {
        self.record().is_protected.store(true, Relaxed);
    }

    /// Returns `true` if what is spoken over the connection is protected with TLS.
    #[cfg(feature = "server")]
    pub(crate) fn is_secure(&self) -> bool {
        self.record().is_protected.load(Relaxed)
    }

    /// Returns a reference for a request to keep.
    #[cfg(feature = "_record_requests")]
    pub(in crate::sink) fn link(&self) -> ConnLink {
        ConnLink { group: self.group.clone(), slot: self.slot.clone() }
    }
}

impl fmt::Debug for ConnRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnRef({})", self.id())
    }
}

/// A connection that a request refers to.
#[derive(Clone)]
pub(crate) struct ConnLink {
    pub(in crate::sink) group: Arc<DialGroup>,
    slot: ConnSlot,
}

impl ConnLink {
    #[inline]
    fn record(&self) -> &ConnRecord {
        self.group.conn(&self.slot)
    }

    #[cfg(feature = "_record_requests")]
    #[inline]
    pub(in crate::sink) fn is_same(&self, conn: &ConnRef) -> bool {
        std::ptr::eq(self.record(), conn.record())
    }

    #[cfg(all(feature = "_lent_sockets", feature = "_record_requests", target_os = "linux"))]
    pub(in crate::sink) fn conn_ref(&self) -> ConnRef {
        ConnRef { group: self.group.clone(), slot: self.slot.clone() }
    }

    pub(in crate::sink) fn id(&self) -> TraceId {
        self.group.core.id(self.record().id)
    }

    pub(in crate::sink) fn peer_addr(&self) -> Option<SocketAddr> {
        self.record().remote
    }

    /// Returns when the handshake was complete.
    pub(in crate::sink) fn established(&self) -> Option<Tick> {
        self.record().established()
    }

    /// Returns the connection with the tunnels over it.
    pub(in crate::sink) fn path(&self) -> ConnPath {
        self.record().path()
    }

    /// Returns when the first byte came after the request was given the connection.
    #[cfg(feature = "_record_requests")]
    #[inline]
    pub(in crate::sink) fn first_byte(&self) -> Option<Tick> {
        self.record().first_byte.get()
    }

    pub(in crate::sink) fn is_http2(&self) -> bool {
        self.record().http2.load(Relaxed)
    }

    /// Returns what went wrong with the connection, or with a tunnel over it.
    #[cfg(feature = "_record_requests")]
    pub(in crate::sink) fn fault(&self) -> Option<FailureDetail> {
        let first_error = || self.record().first_error.get().map(|fault| (**fault).clone());
        self.group.tunnel_fault().or_else(first_error)
    }

    /// Returns `true` if the peer will send nothing more.
    #[cfg(feature = "server")]
    pub(in crate::sink) fn is_closed_by_peer(&self) -> bool {
        self.record().peer_closed.load(Relaxed)
    }

    /// Returns why a request was moved to another connection: the error that ended this one, or that the peer closed
    /// it.
    pub(in crate::sink) fn stale(&self) -> Failure {
        self.record().end.fault().map_or(Failure::EofError, |fault| fault.failure.clone())
    }
}

impl fmt::Debug for ConnLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnLink({})", self.id())
    }
}
