//! A packet on its way from the kernel's buffer into a capture.

use super::flow::Nanos;
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A packet in the kernel's buffer. It is copied only if it is of interest.
#[derive(Clone, Copy, Debug)]
pub(super) struct PacketRef<'a> {
    /// When the packet passed.
    pub(super) at: Nanos,
    /// The packet's length in bytes when it passed.
    pub(super) length: u32,
    pub(super) data: &'a [u8],
}

/// A copied packet.
#[derive(Clone, Debug)]
pub(super) struct OwnedPacket {
    pub(super) at: Nanos,
    pub(super) length: u32,
    pub(super) data: Arc<[u8]>,
}

/// A packet, copied or not.
pub(super) trait Packet {
    /// Returns how many of its bytes were captured.
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

/// Returns the wall-clock time of a packet.
pub(super) fn wall_time(at: Nanos) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(at)
}
