//! Time limits that expired.

use std::{error::Error, fmt, time::Duration};

/// A time limit that expired: which one, and how long it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOut {
    pub(crate) what: &'static str,
    pub(crate) limit: Duration,
}

impl TimedOut {
    /// The limit that expired.
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

/// The client was closed while, or before, the request was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientClosed;

impl fmt::Display for ClientClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client is closed")
    }
}

impl Error for ClientClosed {}
