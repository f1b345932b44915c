//! The limit of connections to one host.

use super::{conn_handle::ConnHandle, host::Host};
use std::{fmt, sync::Arc};

/// Counts as one connection to a host, from before it is dialled until it is closed.
pub(super) struct ConnPermit {
    host: Arc<Host>,
    /// What came of it.
    connection: Option<Arc<ConnHandle>>,
    /// Where all are to share the connection.
    dial: Option<ConnectGuard>,
}

impl ConnPermit {
    /// Of what the host has counted already.
    pub(super) fn new(host: Arc<Host>, dial: Option<ConnectGuard>) -> Self {
        ConnPermit { host, connection: None, dial }
    }

    /// To be dropped when the dial is over, however it ends.
    pub(super) fn dial(&mut self) -> Option<ConnectGuard> {
        self.dial.take()
    }

    pub(super) fn of(mut self, connection: Arc<ConnHandle>) -> Self {
        self.connection = Some(connection);
        self
    }
}

impl Drop for ConnPermit {
    fn drop(&mut self) {
        self.host.left(self.connection.as_ref());
    }
}

/// A connection is made that others wait for.
pub(super) struct ConnectGuard(pub(super) Arc<Host>);

impl Drop for ConnectGuard {
    fn drop(&mut self) {
        self.0.dialled_shared();
    }
}

impl fmt::Debug for ConnPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnPermit")
    }
}
