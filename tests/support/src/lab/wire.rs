//! A link with a delay or a limited rate, in user space, because many kernels are built without netem.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::time::{Instant, sleep_until};

use super::Ns;
use crate::background::Background;
use crate::sys;

/// The packets that a [`Wire`] delays, in each direction.
#[derive(Clone, Copy, Debug)]
pub enum Delay {
    /// Every frame.
    All(Duration),
    /// The first segment of each TCP connection, so that only `connect` takes longer.
    Syn(Duration),
    /// Every frame, until those before it have passed at this rate, in bytes per second. The queue has no limit.
    Rate(u32),
}

/// A bridge that carries frames between two interfaces of a namespace, until it is dropped.
pub struct Wire {
    _directions: [Background; 2],
}

impl Wire {
    #[track_caller]
    pub fn start(ns: &Ns, a: &str, b: &str, delay: Delay) -> Self {
        Self { _directions: [Self::direction(ns, a, b, delay), Self::direction(ns, b, a, delay)] }
    }

    fn direction(ns: &Ns, from: &str, to: &str, delay: Delay) -> Background {
        let open = |interface: &str| {
            let name = CString::new(interface).expect("no NUL in an interface's name");
            ns.run(|| sys::packet_socket(&name)).expect("a packet socket")
        };
        // Opened here, so that no frame is lost after this returns.
        let (from, to) = (open(from), open(to));
        Background::start(ns, move || carry(from, to, delay))
    }
}

/// Carries frames in one direction. Ends when an interface is removed, because the namespace of its peer is gone.
async fn carry(from: OwnedFd, to: OwnedFd, delay: Delay) {
    let from = sys::asynchronous(from).expect("epoll");
    let to = sys::asynchronous(to).expect("epoll");
    let mut frame = vec![0; 70_000]; // segmentation is offloaded, so a frame has up to 64 KiB
    let mut waiting = BTreeMap::new();
    let mut arrived = 0_u64; // keeps the order of frames that are due together
    let mut last = Instant::now();
    loop {
        let next = waiting.first_key_value().map(|((due, _), _)| *due);
        tokio::select! {
            read = from.async_io(Interest::READABLE, |socket| sys::receive(socket.as_fd(), &mut frame)) => {
                let Ok(length) = read else { return };
                let frame = &frame[..length];
                arrived += 1;
                let due = delay.due(frame, last);
                last = due;
                waiting.insert((due, arrived), frame.to_vec());
            }
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                let (_, frame) = waiting.pop_first().expect("a frame is due");
                // Waits while the queue is full. Any other error loses the frame, as on a real link.
                _ = to.async_io(Interest::WRITABLE, |socket| sys::send(socket.as_fd(), &frame)).await;
            }
        }
    }
}

impl Delay {
    /// Returns when the frame, which has just arrived, is passed on. `last` is the same for the frame before it.
    fn due(self, frame: &[u8], last: Instant) -> Instant {
        let now = Instant::now();
        match self {
            Self::All(delay) => now + delay,
            Self::Syn(delay) if is_syn(frame) => now + delay,
            Self::Syn(_) => now,
            Self::Rate(rate) => last.max(now) + Duration::from_secs(frame.len() as u64) / rate,
        }
    }
}

/// Returns `true` if the frame, after the 10 bytes of its `virtio_net_hdr`, is TCP with SYN and without ACK.
fn is_syn(frame: &[u8]) -> bool {
    const TCP: u8 = 6;
    let ethernet = frame.get(10..).unwrap_or_default();
    let Some((header, ip)) = ethernet.split_at_checked(14) else { return false };
    let tcp = match header[12..] {
        [0x08, 0x00] if ip.get(9) == Some(&TCP) => ip.get(usize::from(ip[0] & 0x0f) * 4..),
        [0x86, 0xdd] if ip.get(6) == Some(&TCP) => ip.get(40..),
        _ => None,
    };
    let flags = tcp.and_then(|tcp| tcp.get(13)).copied().unwrap_or_default();
    flags & 0b1_0010 == 0b0_0010
}
