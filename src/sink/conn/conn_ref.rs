//! References to the record of a connection.

use super::record::{ConnPath, ConnRecord, Endpoint, Transport};
use crate::{
    error::FailureDetail,
    record::{EndReason, Failure, TraceId},
    sink::{
        clock::Tick,
        core::Core,
        dial::group::{ConnSlot, DialGroup, GroupState},
        record_id::RecordId,
    },
};
use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

/// Identity of a traced connection, the same for all who use it. Travels in the extensions of responses, and
/// of the metadata that hyper-util keeps of a connection.
#[derive(Clone)]
pub struct ConnRef {
    pub(in crate::sink) group: Arc<DialGroup>,
    slot: ConnSlot,
}

impl ConnRef {
    /// A connection that nothing is known of but that something is done over it.
    pub(in crate::sink) fn unknown(group: Arc<DialGroup>) -> Self {
        let record = ConnRecord::with_id(&group.core, None, Transport::Tcp, Endpoint::default());
        ConnRef { group, slot: ConnSlot::Other(Arc::new(record)) }
    }

    /// Adds the connection that `make` returns. Returns `None` if nothing more is recorded of that dial.
    pub(in crate::sink) fn register(
        group: Arc<DialGroup>,
        make: impl FnOnce(&Core) -> ConnRecord,
    ) -> Option<Self> {
        let slot = group.add_conn(make)?;
        Some(ConnRef { group, slot })
    }

    /// The connections and attempts of a group, whose state is locked.
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

    /// The identifier of the connection in a trace; empty when only a TLS tunnel over a foreign stream is known.
    pub fn id(&self) -> TraceId {
        self.group.core.id(self.record_id())
    }

    /// The address of this side, where there is one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.record().local.get().copied()
    }

    /// The address of the peer, where there is one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.record().remote
    }

    pub(crate) fn record_id(&self) -> Option<RecordId> {
        self.record().id
    }

    /// Over what it runs; `None` when only a TLS tunnel over a foreign stream is known.
    #[cfg(all(unix, feature = "capture"))]
    pub(crate) fn transport(&self) -> Option<Transport> {
        let record = self.record();
        record.id.map(|_| record.transport)
    }

    /// How long ago it began.
    #[cfg(all(unix, feature = "capture"))]
    pub(crate) fn age(&self) -> std::time::Duration {
        let core = &self.group.core;
        core.clock.between(self.record().begin, core.now())
    }

    /// Whether it is one of that sink's.
    pub(in crate::sink) fn is_of(&self, core: &Arc<Core>) -> bool {
        Arc::ptr_eq(&self.group.core, core)
    }

    /// A request was given the connection: the next byte that comes is the first of its response (HTTP/1).
    pub(crate) fn await_first_byte(&self) {
        self.record().first_byte.expect();
    }

    /// Its close is not to be recorded as a mere `closed`.
    pub(crate) fn set_close_reason(&self, reason: EndReason) {
        let _ = self.record().close_reason.set(reason);
    }

    /// HTTP/2 will be spoken over it, by ALPN or by prior knowledge.
    pub(crate) fn set_http2(&self) {
        self.record().http2.store(true, Relaxed);
    }

    /// Whether that is the same connection.
    #[cfg(feature = "tonic")]
    pub(crate) fn is_same(&self, other: &ConnRef) -> bool {
        std::ptr::eq(self.record(), other.record())
    }

    /// The peer will send nothing more, as TLS says above it.
    #[cfg(all(feature = "server", feature = "tls"))]
    pub(crate) fn set_peer_closed(&self) {
        self.record().peer_closed.store(true, Relaxed);
    }

    /// From now on what is spoken over it is protected with TLS.
    #[cfg(all(feature = "server", feature = "tls"))]
    pub(crate) fn set_secure(&self) {
        self.record().is_protected.store(true, Relaxed);
    }

    /// Whether what is spoken over it is protected with TLS.
    #[cfg(feature = "server")]
    pub(crate) fn is_secure(&self) -> bool {
        self.record().is_protected.load(Relaxed)
    }

    /// As a request refers to it.
    pub(in crate::sink) fn link(&self) -> ConnLink {
        ConnLink { group: self.group.clone(), slot: self.slot.clone() }
    }
}

impl fmt::Debug for ConnRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnRef({})", self.id())
    }
}

/// A connection of a request. Does not lead back to the request, as a [`ConnRef`] may.
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

    #[inline]
    pub(in crate::sink) fn is_same(&self, conn: &ConnRef) -> bool {
        std::ptr::eq(self.record(), conn.record())
    }

    pub(in crate::sink) fn id(&self) -> TraceId {
        self.group.core.id(self.record().id)
    }

    /// Itself, the tunnel to the server over it, and the one to a proxy.
    pub(in crate::sink) fn path(&self) -> ConnPath {
        self.record().path()
    }

    /// When the first byte came after the request was given the connection.
    #[inline]
    pub(in crate::sink) fn first_byte(&self) -> Option<Tick> {
        self.record().first_byte.get()
    }

    pub(in crate::sink) fn is_http2(&self) -> bool {
        self.record().http2.load(Relaxed)
    }

    /// What went wrong with it, or with a tunnel over it.
    pub(in crate::sink) fn fault(&self) -> Option<FailureDetail> {
        let first_error = || self.record().first_error.get().map(|fault| (**fault).clone());
        self.group.tunnel_fault().or_else(first_error)
    }

    /// Whether the peer will send nothing more.
    #[cfg(feature = "server")]
    pub(in crate::sink) fn is_closed_by_peer(&self) -> bool {
        self.record().peer_closed.load(Relaxed)
    }

    /// Why a request was moved away from it: what ended it, or that the peer did not want it any more.
    pub(in crate::sink) fn stale(&self) -> Failure {
        self.record().end.fault().map_or(Failure::EofError, |fault| fault.failure.clone())
    }
}

impl fmt::Debug for ConnLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnLink({})", self.id())
    }
}
