//! The limit of connections to one host.

use super::host::Host;
use std::{fmt, sync::Arc};

/// Counts as one connection to a host, from before it is dialled until it is closed.
pub(super) struct Place {
    host: Arc<Host>,
    /// Others wait for what comes of this dial.
    pub(super) is_dial: bool,
}

impl Place {
    /// Of what the host has counted already.
    pub(super) fn new(host: Arc<Host>) -> Self {
        Place { host, is_dial: true }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.host.left(self.is_dial);
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place")
    }
}
