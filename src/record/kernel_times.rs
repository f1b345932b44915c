//! The kernel's time stamps of the bytes of a connection.

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::serde_helpers::{is_default, null_as_default};

/// When the bytes of a TCP connection left this host, were acknowledged, and arrived, as the kernel saw it
/// (`SO_TIMESTAMPING`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct KernelTimes {
    /// The writes, oldest first.
    #[serde(deserialize_with = "null_as_default")]
    pub writes: Vec<WriteTimes>,
    /// The reads whose bytes the kernel has stamped, oldest first.
    #[serde(deserialize_with = "null_as_default")]
    pub reads: Vec<ReadTimes>,
    /// The number of writes that were dropped. The first and the newest are kept.
    #[serde(skip_serializing_if = "is_default")]
    pub dropped_writes: u64,
    /// The number of reads that were dropped. The first and the newest are kept.
    #[serde(skip_serializing_if = "is_default")]
    pub dropped_reads: u64,
    /// The number of writes, and of reads, before the dropped ones; 0 if none were dropped.
    #[serde(skip_serializing_if = "is_default")]
    pub dropped_after: u64,
}

/// The times of one write. They are those of its last byte.
///
/// The kernel may send the bytes of several small writes in one packet. Then only the last of these writes has more
/// times than `written_at`. A time is undefined too if the byte had not come so far when the connection ended, or the wall
/// clock was set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct WriteTimes {
    /// The bytes that were sent on the connection up to and including those of this write.
    pub sent_bytes: u64,
    /// When the write was called.
    pub written_at: Timestamp,
    /// When the byte left TCP for the packet scheduler of the network interface.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub scheduled_at: Timestamp,
    /// When the byte was passed to the driver of the network interface.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub sent_at: Timestamp,
    /// When the peer's acknowledgement of the byte, and thereby of all before it, arrived.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub acked_at: Timestamp,
}

/// The times of one read. They are those of its first byte. A read without a stamp has no record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[non_exhaustive]
pub struct ReadTimes {
    /// The bytes that were received on the connection before this read.
    pub recv_bytes: u64,
    /// When the kernel received the byte. If segments that followed were joined with that of the byte before they were
    /// read, this is when the last of them arrived. So it may be late, but is never early.
    pub received_at: Timestamp,
    /// When the read returned; undefined if the connection was closed before the byte was read.
    #[serde(skip_serializing_if = "Timestamp::is_undefined")]
    pub read_at: Timestamp,
}
