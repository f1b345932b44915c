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
    /// How many more there were: only the first and the newest are kept.
    #[serde(skip_serializing_if = "is_default")]
    pub dropped_ops: u64,
    /// How many of `socket_ops` precede the dropped ones.
    #[serde(skip_serializing_if = "is_default")]
    pub dropped_after: u64,
}
