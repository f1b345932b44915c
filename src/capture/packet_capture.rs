//! The packets that were captured on an interface, as plain data.

use crate::record::TraceId;
use std::{
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// The packets of traced connections that passed one interface, in either direction, as far as they were captured.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PacketCapture {
    /// The interface; `any` for all of them at once.
    pub interface_name: String,
    /// The most bytes of a packet that are captured.
    pub snap_len: u32,
    /// The header that packets begin with (`LINKTYPE_*` of the pcap formats): 1 for Ethernet, 276 for `any`.
    pub link_type: u16,
    /// The packets, in the order of their times.
    pub packets: Vec<CapturedPacket>,
    /// Whether packets are missing because the limit of the total size was reached.
    pub truncated: bool,
    /// Whether TCP segments with a payload are captured, too.
    pub with_tcp_payload: bool,
    /// How many packets were lost because the kernel's buffer was full. Counts all packets of the interface, not only
    /// those of traced connections.
    pub dropped_by_kernel: u64,
    /// How many packets of traced connections are missing because the limit of the total size was reached.
    pub dropped_by_limit: u64,
    /// How many packets were dropped to make room before it was known whether they belong to a traced connection. On a
    /// busy interface most of them do not.
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
    /// The connection that the packet belongs to; undefined for ICMP and ARP packets that belong to none.
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
