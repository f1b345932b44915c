//! The error of a future that is polled outside a tokio runtime.

use std::{error::Error, fmt};
use tokio::runtime::Handle;

/// An error returned when a future of this crate is polled outside a tokio runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoRuntime;

impl NoRuntime {
    /// Returns an error outside a tokio runtime, where tokio's sockets, timers and tasks would panic. A runtime without
    /// I/O or timers cannot be distinguished from others.
    pub(crate) fn check() -> Result<(), NoRuntime> {
        Handle::try_current().map(drop).map_err(|_| NoRuntime)
    }
}

impl fmt::Display for NoRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no tokio runtime: poll the future inside one")
    }
}

impl Error for NoRuntime {}
