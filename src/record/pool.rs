//! How the client's pool gave a request its connection.

use serde::{Deserialize, Serialize};

use super::open_enum::open_enum;

/// How the pool of the client gave a request its connection. Known for requests of this crate's client only.
///
/// If the request was tried on several connections, this is about the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct PoolCheckout {
    /// Where the connection came from. `None` if the request ended before it was given one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<PoolConnection>,
    /// How long the reused connection had been idle, in microseconds, rounded down by less than a 2^18th. `None` for other
    /// connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_us: Option<u64>,
    /// The reason for which the request waited before it could use or make a connection. `None` if it did not wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited_for: Option<PoolWait>,
    /// Why there was no connection to reuse at once. `None` if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_reused: Option<NotReused>,
}

open_enum! {
    /// Where a connection of the pool came from.
    pub enum PoolConnection {
        /// It was made for the request.
        #[default]
        New = "new",
        /// It had been used before, by one request after the other.
        Reused = "reused",
        /// It is shared with other requests at the same time (HTTP/2).
        Shared = "shared",
    }
}

open_enum! {
    /// The reason for which a request waited in the pool.
    pub enum PoolWait {
        /// A connection that another request was using.
        #[default]
        Release = "release",
        /// A connection over HTTP/2 that another request was making.
        Dial = "dial",
        /// As many connections to the host as the limit allows were in use
        /// (`ClientBuilder::max_conns_per_host`).
        Limit = "limit",
    }
}

open_enum! {
    /// Why the pool had no connection to reuse.
    pub enum NotReused {
        /// There had been none to this host, or the pool has forgotten the host since, as it does when it has no connections.
        #[default]
        First = "first",
        /// There had been none to this host with the same scheme and proxy, only with others.
        OtherKey = "other-key",
        /// All were in use, or being made.
        Busy = "busy",
        /// The last one was closed while it was idle, by the peer or because of an error.
        ClosedWhileIdle = "closed-while-idle",
        /// The last one could not be used again: the response said so (`Connection: close`), was not read to its end, or
        /// failed, or the server shut the connection down.
        NotKept = "not-kept",
        /// The last one was idle for too long (`ClientBuilder::idle_timeout`).
        IdleTimeout = "idle-timeout",
        /// The last one was closed because too many were idle.
        IdleLimit = "idle-limit",
        /// The program closed the idle connections.
        ClosedByProgram = "closed-by-program",
        /// The client does not use connections twice.
        KeepAliveOff = "keep-alive-off",
    }
}
