//! Errors of the client's own limits.

use std::{error::Error, fmt, time::Duration};

/// An error returned when a timeout of the client expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut {
    pub(crate) what: &'static str,
    pub(crate) limit: Duration,
}

impl TimedOut {
    /// Returns the timeout that expired.
    pub fn limit(&self) -> Duration {
        self.limit
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} within {:?}", self.what, self.limit)
    }
}

impl Error for TimedOut {}

/// An error returned when the client is closed before or while a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientClosed;

impl fmt::Display for ClientClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client is closed")
    }
}

impl Error for ClientClosed {}
