use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::open_enum::open_enum;

/// One read or write of a socket, from its first poll until it was ready.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct SocketOp {
    /// What was done.
    pub r#type: SocketOpType,
    /// When it was called for the first time.
    pub call_at: Timestamp,
    /// When it returned.
    pub return_at: Timestamp,
    /// The error that it returned, as text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub return_err: String,
    /// Where a datagram came from or went to, as `host:port`; only for `read-from` and `write-to`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_addr: String,
    /// Bytes read or written.
    pub data_len: u32,
}

open_enum! {
    /// What a socket operation does.
    pub enum SocketOpType {
        /// Something else.
        #[default]
        Unrecognized = "unrecognized-op" | "",
        /// Reads from a connected socket.
        Read = "read",
        /// Receives a datagram, with its source.
        ReadFrom = "read-from",
        /// Writes to a connected socket.
        Write = "write",
        /// Sends a datagram to a destination.
        WriteTo = "write-to",
    }
}
