//! [`WireContext`]: what the readers know of the connection whose bytes they read.

use crate::sink::{ConnRef, TraceSink};
use http::uri::Authority;

/// What is known of a connection before anything has passed over it.
#[derive(Debug)]
pub(super) struct WireContext {
    pub(super) sink: TraceSink,
    pub(super) conn: ConnRef,
    /// The side of the connection that this program is.
    pub(super) side: Side,
    /// Whether the connection is protected with TLS below what is read.
    pub(super) is_secure: bool,
    /// The host that was dialed, for requests that name none.
    pub(super) dialed: Option<Authority>,
}

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// This program sends requests.
    Client,
    /// This program answers requests.
    Server,
}
