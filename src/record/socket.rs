//! The recorded reads and writes of a socket.

use serde::{Deserialize, Serialize};

use super::SocketOps;
use super::serde_helpers::is_default;

/// The reads and writes of a socket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct SocketTrace {
    /// The operations, in the order in which they returned.
    pub socket_ops: SocketOps,
    /// The number of operations that were dropped. The first and the newest are kept.
    #[serde(skip_serializing_if = "is_default")]
    pub dropped_ops: u64,
    /// The number of operations in `socket_ops` before the dropped ones.
    #[serde(skip_serializing_if = "is_default")]
    pub dropped_after: u64,
}
