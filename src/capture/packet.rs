//! What a capture gives: plain data.

use super::{file, flow::Nanos};
use crate::record::TraceId;
use std::{
    fmt, io,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The packets of traced connections that passed one interface, in either direction, as far as they were captured.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PacketCapture {
    /// The interface; `any` for all of them at once.
    pub interface_name: String,
    /// Bytes of a packet that are captured at most.
    pub snap_len: u32,
    /// What a packet begins with (`LINKTYPE_*` of the pcap formats): 1 for Ethernet, 276 for `any`.
    pub link_type: u16,
    /// The packets, in the order of their times.
    pub packets: Vec<CapturedPacket>,
    /// Whether packets are missing because the limit of the total size was reached.
    pub truncated: bool,
    /// Whether TCP segments with a payload are captured, too.
    pub with_tcp_payload: bool,
    /// Packets that were lost because the kernel's buffer was full: of all that passed the interface, not of traced
    /// connections alone.
    pub dropped_by_kernel: u64,
    /// Packets of traced connections that are missing because of the limit of the total size.
    pub dropped_by_limit: u64,
    /// Packets that gave way to others before it was known whether they belong to a traced connection. On a busy
    /// interface most of them will not.
    pub dropped_pending: u64,
}

/// One packet.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CapturedPacket {
    /// When it passed, by the wall clock.
    pub time: SystemTime,
    /// Its length in bytes when it passed.
    pub length: u32,
    /// Its first bytes, from the link layer on; not more than the snap length.
    pub data: Arc<[u8]>,
    /// The connection that it belongs to; undefined for ICMP and ARP on their own.
    pub connection: TraceId,
}

impl PacketCapture {
    /// Writes the packets as pcap with nanoseconds. See [`CaptureFile`](super::CaptureFile) for pcapng, which holds
    /// more.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn write_to(&self, writer: impl io::Write) -> io::Result<()> {
        file::CaptureFile::new(std::slice::from_ref(self)).write_pcap(writer)
    }

    /// Writes the packets to a file that only its owner may read: as pcapng if that is its suffix, else as pcap.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn write_to_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        file::CaptureFile::new(std::slice::from_ref(self)).write_to_file(path)
    }
}

impl CapturedPacket {
    /// Nanoseconds since the Unix epoch.
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

/// A packet that is taken out of the kernel's buffer only when it is of interest.
#[derive(Clone, Copy, Debug)]
pub(super) struct PacketRef<'a> {
    pub(super) at: Nanos,
    /// Its length when it passed, in bytes.
    pub(super) length: u32,
    pub(super) data: &'a [u8],
}

/// A packet that was.
#[derive(Clone, Debug)]
pub(super) struct OwnedPacket {
    pub(super) at: Nanos,
    pub(super) length: u32,
    pub(super) data: Arc<[u8]>,
}

pub(super) trait Packet {
    /// Bytes of it that were captured.
    fn captured_bytes(&self) -> usize;

    fn into_owned(self) -> OwnedPacket;
}

impl Packet for PacketRef<'_> {
    fn captured_bytes(&self) -> usize {
        self.data.len()
    }

    fn into_owned(self) -> OwnedPacket {
        OwnedPacket { at: self.at, length: self.length, data: self.data.into() }
    }
}

impl Packet for OwnedPacket {
    fn captured_bytes(&self) -> usize {
        self.data.len()
    }

    fn into_owned(self) -> OwnedPacket {
        self
    }
}

pub(super) fn wall_time(at: Nanos) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(at)
}
