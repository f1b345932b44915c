//! The limit of connections to one host.

use super::{control::Control, host::Host};
use std::{fmt, sync::Arc};

/// Counts as one connection to a host, from before it is dialled until it is closed.
pub(super) struct Place {
    host: Arc<Host>,
    /// What came of it.
    connection: Option<Arc<Control>>,
    /// Where all are to share the connection.
    dial: Option<SharedDial>,
}

impl Place {
    /// Of what the host has counted already.
    pub(super) fn new(host: Arc<Host>, dial: Option<SharedDial>) -> Self {
        Place { host, connection: None, dial }
    }

    /// To be dropped when the dial is over, however it ends.
    pub(super) fn dial(&mut self) -> Option<SharedDial> {
        self.dial.take()
    }

    pub(super) fn of(mut self, connection: Arc<Control>) -> Self {
        self.connection = Some(connection);
        self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.host.left(self.connection.as_ref());
    }
}

/// A connection is made that others wait for.
pub(super) struct SharedDial(pub(super) Arc<Host>);

impl Drop for SharedDial {
    fn drop(&mut self) {
        self.0.dialled_shared();
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}
