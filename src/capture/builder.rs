use super::{
    filter::{Filter, FilterConfig},
    pcap_handle::CaptureConfig,
    probe::CaptureProbe,
    worker::CaptureSession,
};
use std::{sync::Arc, time::Duration};

/// FilterConfig for a [`CaptureProbe`].
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

    /// Bytes of a packet that are captured at most; 1518 by default. TLS can be decrypted only from whole packets,
    /// which may be as long as 65,535 bytes and a header where the hardware cuts them to size: 65,600 holds them.
    pub fn snap_len(mut self, bytes: u32) -> Self {
        self.capture.snap_len = bytes.clamp(64, MAX_SNAP_LEN_BYTES);
        self
    }

    /// Bytes that are kept at most, of all interfaces together, with 16 for each packet as in a file; 1 MiB by
    /// default. Packets that come when the limit is reached are counted and let go of. Memory takes up to twice as
    /// much, three times where all packets are small, and less than 1 MiB for packets that may turn out to belong to
    /// a connection.
    pub fn total_size_limit(mut self, bytes: usize) -> Self {
        self.total_size_limit = bytes;
        self
    }

    /// Capture all ICMP packets, of IPv6 also neighbour discovery. Off by default; errors that quote a packet of a
    /// traced connection are always captured.
    pub fn icmp(mut self, on: bool) -> Self {
        self.icmp = on;
        self
    }

    /// Capture all ARP packets. Off by default.
    pub fn arp(mut self, on: bool) -> Self {
        self.capture.arp = on;
        self
    }

    /// Of TCP capture only segments without a payload: SYN, FIN, RST and bare acknowledgements. The others cost next
    /// to nothing then. Off by default.
    pub fn tcp_without_payload(mut self, on: bool) -> Self {
        self.capture.tcp_payload = !on;
        self
    }

    /// Bytes of the kernel's buffer for each interface, in which every packet takes as much as the snap length allows.
    /// By default 4 MiB, and with a greater snap length 512 packets, but not more than 64 MiB. Packets that come when
    /// it is full are lost, and counted.
    pub fn buffer_size(mut self, bytes: u32) -> Self {
        self.buffer_size = Some(bytes);
        self
    }

    /// Has the kernel pass on only what this filter lets through (pcap-filter(7)): `"port 443 or port 53"`. On a busy
    /// machine the traffic beside that of traced connections then costs nothing.
    pub fn filter(mut self, filter: impl Into<String>) -> Self {
        self.capture.filter = Some(filter.into());
        self
    }

    /// How long after a connection began its addresses may become known, where NAT changes them or a foreign connector
    /// makes it: packets of nobody in particular are held for so long. 2 seconds by default.
    pub fn pending_timeout(mut self, time: Duration) -> Self {
        self.pending_timeout = time;
        self
    }

    /// Starts to capture, in the network namespace of the calling thread. Interfaces that cannot be opened are told of
    /// in [`problems`](CaptureProbe::problems), and the log; the others are not affected.
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
        let worker = session.start();
        CaptureProbe::new(session, worker)
    }
}

/// Of the kernel, where nothing is said.
const MIN_BUFFER_BYTES: u32 = 4 << 20;
const MAX_BUFFER_BYTES: u32 = 64 << 20;
const MIN_BUFFERED_PACKETS: u32 = 512;
/// libpcap takes no more.
const MAX_SNAP_LEN_BYTES: u32 = 262_144;
