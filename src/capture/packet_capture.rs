//! The packets that were captured on an interface, as plain data.

use crate::record::TraceId;
use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// The packets that were captured on one interface, in either direction: those of traced connections, and the ICMP and
/// ARP packets that the builder was told to capture. What is missing is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PacketCapture {
    /// The name of the interface; `any` for all of them at once.
    pub interface_name: String,
    /// The most bytes of a packet that are captured.
    pub snap_len: u32,
    /// The type of the header that packets begin with: 1 (`LINKTYPE_ETHERNET`), or 276 (`LINKTYPE_LINUX_SLL2`) for the
    /// interface `any`.
    pub link_type: u16,
    /// The packets, sorted by time.
    pub packets: Vec<CapturedPacket>,
    /// Whether the capture is incomplete because it reached its
    /// [`total_size_limit`](super::CaptureBuilder::total_size_limit). A packet that was cut to the snap length does not
    /// count.
    pub truncated: bool,
    /// Whether TCP segments with a payload are captured, and not only those without.
    pub with_tcp_payload: bool,
    /// How many packets were lost because the kernel's buffer was full. Counts all packets of the interface, not only
    /// those of traced connections.
    pub dropped_by_kernel: u64,
    /// How many packets are missing because the limit of the total size was reached.
    pub dropped_by_limit: u64,
    /// How many packets were dropped while they waited for their connection to become known. A SYN passes before the
    /// program knows its own port, so packets wait, and the oldest are dropped when there are too many. On a busy
    /// interface most of them belong to no traced connection.
    pub dropped_pending: u64,
}

/// A captured packet.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CapturedPacket {
    /// When the packet passed, by the wall clock.
    pub time: SystemTime,
    /// The packet's length in bytes when it passed.
    pub length: u32,
    /// The packet's first bytes, from the link layer on; at most the snap length.
    pub data: Arc<[u8]>,
    /// The connection that the packet belongs to. [`TraceId::UNDEFINED`] for ICMP and ARP packets that belong to none.
    pub connection: TraceId,
}

impl CapturedPacket {
    /// Returns the packet's time in nanoseconds since the Unix epoch.
    pub(super) fn nanos(&self) -> u64 {
        let since = self.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for CapturedPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CapturedPacket")
            .field("time", &self.time)
            .field("length", &self.length)
            .field("captured", &self.data.len())
            .field("connection", &self.connection)
            .finish()
    }
}
