//! Has the kernel stamp the bytes of some TCP connections.
//!
//! The probe only chooses the connections. The stamps are taken with each read and write, so `net::stamped_tcp` does
//! that.

use crate::{ConnRef, Probe, ProbeEvent, ProbeSocket};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// A probe that takes the kernel's time stamps of what is sent and received: when a request left this host and was
/// acknowledged, and when the response was there to be read (`SO_TIMESTAMPING`).
///
/// The stamps divide the wait of a request between this host, the network, the server, and this process, which reads late
/// if its runtime is blocked. They are in `kernelTimes` of a connection's record;
/// [`HttpReqTrace::wait_breakdown`](crate::record::HttpReqTrace::wait_breakdown) does the division.
///
/// It sees the connections that `TcpConnector` and the nameservers' encrypted protocols make, and those that
/// `TraceListener` accepts. One in 16 is sampled unless [`every`](Self::every) says otherwise. Linux 5.1 is needed, and
/// no privilege; connections that the kernel cannot stamp have no `kernelTimes`.
///
/// ```
/// use nettrace::{TraceSink, linux::TimestampingProbe};
///
/// let sink = TraceSink::builder().probe(TimestampingProbe::new().every(4)).build();
/// ```
///
/// # Accuracy
///
/// The kernel stamps with the wall clock. A stamp is converted to the time of the trace by its age when it is taken
/// from the socket, with an error of a few microseconds. If the wall clock is set in between, by more than a
/// millisecond, what was stamped before is left out.
///
/// # Cost
///
/// A connection that is not sampled costs nothing more. A sampled one costs four system calls for a write and a
/// read: one to peek at the stamp of what has arrived, and one for each stamp of what was sent. With
/// `every(1)` a kept-alive GET of 1 KiB takes 1.18 of the CPU time that it takes without the probe (81 µs and 14 µs
/// more), a new connection 1.14, and a download of 1 GiB no more
/// (`benches/in_netns.sh target/release/nettrace-load --turns 240 --anew 10 --modes traced,stamped --baseline traced`).
/// As long as a sampled connection is open, the kernel also stamps every packet that this host receives.
///
/// # Limitations
///
/// Stamps of sent bytes are reported to the runtime as an error of the socket, after which tokio regards its writing
/// side as always ready. [`TracedIo`](crate::connect::TracedIo) copes with this in its reads and writes. Its
/// `into_inner` and `get_mut` end the stamping. Code that writes to the `TcpStream` of `get_ref` must not wait for
/// `writable`.
///
/// A sampled connection has two file descriptors.
#[derive(Clone, Debug)]
pub struct TimestampingProbe {
    every: u32,
    max_stamps: usize,
    connections: Arc<AtomicU64>,
}

impl TimestampingProbe {
    /// Creates a probe that samples one connection in 16.
    pub fn new() -> Self {
        TimestampingProbe { every: 16, max_stamps: 128, connections: Arc::default() }
    }

    /// Sets that one connection in `every` is sampled, the first included: all with 1, none with 0.
    pub fn every(mut self, every: u32) -> Self {
        self.every = every;
        self
    }

    /// Sets the maximum number of writes, and of reads, whose stamps are kept for each connection; 128 by default.
    ///
    /// The first half and the newest half are kept, and an odd number is rounded up; `kernelTimes` counts the others. A
    /// write takes 64 bytes, a read 24.
    pub fn max_stamps(mut self, max: usize) -> Self {
        self.max_stamps = max;
        self
    }

    fn is_sampled(&self) -> bool {
        self.every != 0 && self.connections.fetch_add(1, Relaxed).is_multiple_of(self.every.into())
    }
}

impl Default for TimestampingProbe {
    fn default() -> Self {
        TimestampingProbe::new()
    }
}

impl Probe for TimestampingProbe {
    fn event(&self, conn: &ConnRef, event: ProbeEvent, _: ProbeSocket<'_>) {
        let is_stream = event == ProbeEvent::Connected && !conn.is_udp() && !conn.is_of_lookup();
        if is_stream && self.is_sampled() {
            conn.take_kernel_times(self.max_stamps);
        }
    }
}
