//! A single read or write of a socket, decoded.

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::open_enum::open_enum;

/// A read or write of a socket, from its first poll until it was ready.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct SocketOp {
    /// The kind of operation.
    pub r#type: SocketOpType,
    /// When it was first called.
    pub call_at: Timestamp,
    /// When it returned.
    pub return_at: Timestamp,
    /// The text of the error that it returned.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub return_err: String,
    /// The source or destination of a datagram, as `host:port`. Only for `read-from` and `write-to`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_addr: String,
    /// The number of bytes read or written.
    pub data_len: u32,
}

open_enum! {
    /// The kind of a socket operation.
    pub enum SocketOpType {
        /// Any other operation.
        #[default]
        Unrecognized = "unrecognized-op" | "",
        /// A read from a connected socket.
        Read = "read",
        /// A datagram received with its source address.
        ReadFrom = "read-from",
        /// A write to a connected socket.
        Write = "write",
        /// A datagram sent to a destination address.
        WriteTo = "write-to",
    }
}
