//! Configures a capture.

use super::{
    filter::{Filter, FilterConfig},
    pcap_handle::CaptureConfig,
    probe::CaptureProbe,
    session::CaptureSession,
    worker::Worker,
};
use std::{sync::Arc, time::Duration};

/// A builder that configures a [`CaptureProbe`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct CaptureBuilder {
    interfaces: Vec<String>,
    total_size_limit: usize,
    icmp: bool,
    buffer_size: Option<u32>,
    pending_timeout: Duration,
    capture: CaptureConfig,
}

impl CaptureBuilder {
    pub(super) fn new(interfaces: Vec<String>) -> Self {
        CaptureBuilder {
            interfaces,
            total_size_limit: 1 << 20,
            icmp: false,
            pending_timeout: Duration::from_secs(2),
            buffer_size: None,
            capture: CaptureConfig {
                snap_len: 1518,
                buffer_size: MIN_BUFFER_BYTES,
                arp: false,
                tcp_payload: true,
                filter: None,
            },
        }
    }

    /// Sets the most bytes of a packet that are captured; 1518 by default.
    ///
    /// TLS can only be decrypted from whole packets. Where the hardware cuts packets to size they may have 65,535 bytes
    /// and a header: 65,600 holds them.
    pub fn snap_len(mut self, bytes: u32) -> Self {
        self.capture.snap_len = bytes.clamp(64, MAX_SNAP_LEN_BYTES);
        self
    }

    /// Sets the most bytes that are kept, of all interfaces together, with 16 for each packet as in a file; 1 MiB by
    /// default.
    ///
    /// Packets that come after the limit is reached are counted and dropped. In memory they take up to twice as much,
    /// three times where all packets are small, and less than 1 MiB more for packets that may turn out to belong to a
    /// connection.
    pub fn total_size_limit(mut self, bytes: usize) -> Self {
        self.total_size_limit = bytes;
        self
    }

    /// Captures all ICMP packets, with neighbour discovery of IPv6. Off by default; errors that quote a packet of a
    /// traced connection are always captured.
    pub fn icmp(mut self, on: bool) -> Self {
        self.icmp = on;
        self
    }

    /// Captures all ARP packets. Off by default.
    pub fn arp(mut self, on: bool) -> Self {
        self.capture.arp = on;
        self
    }

    /// Captures only TCP segments without a payload: SYN, FIN, RST and bare acknowledgements. The kernel then drops the
    /// others at next to no cost. Off by default.
    pub fn tcp_without_payload(mut self, on: bool) -> Self {
        self.capture.tcp_payload = !on;
        self
    }

    /// Sets the size of the kernel's buffer for each interface in bytes. Every packet takes as much of it as the snap
    /// length allows.
    ///
    /// By default it is 4 MiB, and with a greater snap length 512 packets, but not more than 64 MiB. Packets that come
    /// when it is full are lost, and counted.
    pub fn buffer_size(mut self, bytes: u32) -> Self {
        self.buffer_size = Some(bytes);
        self
    }

    /// Sets a filter that packets have to pass in the kernel (pcap-filter(7)), such as `"port 443 or port 53"`. On a
    /// busy machine other traffic then costs nothing.
    pub fn filter(mut self, filter: impl Into<String>) -> Self {
        self.capture.filter = Some(filter.into());
        self
    }

    /// Sets how long packets are held that belong to no known connection; 2 seconds by default.
    ///
    /// A connection's addresses may become known only some time after it began, where NAT changes them or a foreign
    /// connector makes it. The time begins anew with each connection.
    pub fn pending_timeout(mut self, time: Duration) -> Self {
        self.pending_timeout = time;
        self
    }

    /// Starts to capture, in the network namespace of the calling thread.
    ///
    /// Interfaces that cannot be opened are listed in [`problems`](CaptureProbe::problems), and logged. The others are
    /// not affected.
    pub fn start(mut self) -> CaptureProbe {
        let mut known = Vec::new();
        self.interfaces.retain(|name| {
            let is_new = !known.contains(name);
            known.extend(is_new.then(|| name.clone()));
            is_new
        });
        let filter = Filter::new(FilterConfig {
            icmp: self.icmp,
            arp: self.capture.arp,
            tcp_payload: self.capture.tcp_payload,
            size_limit: self.total_size_limit,
            pending_timeout: u64::try_from(self.pending_timeout.as_nanos()).unwrap_or(u64::MAX),
        });
        let usual = self
            .capture
            .snap_len
            .saturating_mul(MIN_BUFFERED_PACKETS)
            .clamp(MIN_BUFFER_BYTES, MAX_BUFFER_BYTES);
        self.capture.buffer_size = self.buffer_size.unwrap_or(usual);
        let session = Arc::new(CaptureSession::open(&self.interfaces, self.capture, filter));
        let worker = Worker::start(&session);
        CaptureProbe::new(session, worker)
    }
}

/// The size of the kernel's buffer, unless [`MIN_BUFFERED_PACKETS`] take more.
const MIN_BUFFER_BYTES: u32 = 4 << 20;
/// The size that [`MIN_BUFFERED_PACKETS`] cannot exceed.
const MAX_BUFFER_BYTES: u32 = 64 << 20;
/// How many packets there is room for.
const MIN_BUFFERED_PACKETS: u32 = 512;
/// The greatest snap length that libpcap takes.
const MAX_SNAP_LEN_BYTES: u32 = 262_144;
