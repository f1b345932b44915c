//! Begins the record of a connection.

#[cfg(any(feature = "connect", feature = "request"))]
use super::first_byte::FirstByteCell;
use super::{
    conn_ref::ConnRef,
    conntrack::ConntrackCell,
    op_log::OpLog,
    record::{ConnRecord, Transport},
};
#[cfg(feature = "tls")]
use crate::sink::dial::group::ConnSlot;
use crate::sink::{
    clock::AtomicTick,
    core::Core,
    dial::group::DialGroup,
    record_id::{AtomicRecordId, RecordId},
    registry::end::EndCell,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64},
    },
};

/// Both ends of a connection, as far as they are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoint {
    pub(crate) local: Option<SocketAddr>,
    pub(crate) remote: Option<SocketAddr>,
    /// The path of a Unix socket.
    pub(crate) path: Option<Box<str>>,
}

impl ConnRef {
    /// Creates a reference to a connection of which nothing is known except that something runs over it.
    #[cfg(feature = "tls")]
    pub(in crate::sink) fn unknown(group: Arc<DialGroup>) -> Self {
        let record = ConnRecord::with_id(&group.core, None, Transport::Tcp, Endpoint::default());
        ConnRef { group, slot: ConnSlot::Other(Arc::new(record)) }
    }

    /// Adds the connection that `make` returns. Returns `None` if nothing more is recorded of that dial.
    #[cfg(feature = "connect")]
    pub(in crate::sink) fn register(
        group: Arc<DialGroup>,
        make: impl FnOnce(&Core) -> ConnRecord,
    ) -> Option<Self> {
        let slot = group.add_conn(make)?;
        Some(ConnRef { group, slot })
    }
}

impl ConnRecord {
    #[cfg(feature = "connect")]
    pub(in crate::sink) fn new(core: &Core, transport: Transport, endpoint: Endpoint) -> Self {
        Self::with_id(core, Some(core.id_alloc.next_id()), transport, endpoint)
    }

    fn with_id(core: &Core, id: Option<RecordId>, transport: Transport, endpoint: Endpoint) -> Self {
        let Endpoint { local, remote, path } = endpoint;
        ConnRecord {
            id,
            transport,
            from_resolver: false,
            accepted: false,
            above_tls: false,
            is_unobserved: false,
            begin: core.now(),
            local: local.map_or_else(OnceLock::new, OnceLock::from),
            remote,
            path,
            established: AtomicTick::default(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            #[cfg(any(feature = "connect", feature = "request"))]
            first_byte: FirstByteCell::default(),
            log: core.config.socket_ops.then(OpLog::new),
            first_error: OnceLock::new(),
            conntrack: ConntrackCell::default(),
            probe_data: OnceLock::new(),
            tls: AtomicRecordId::default(),
            proxy_tls: AtomicRecordId::default(),
            close_reason: OnceLock::new(),
            #[cfg(feature = "connect")]
            peer_closed: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            #[cfg(feature = "server")]
            is_protected: AtomicBool::new(false),
            #[cfg(feature = "wire")]
            has_request_layer: AtomicBool::new(false),
            end: EndCell::default(),
        }
    }
}
