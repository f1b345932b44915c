//! Turns `SO_TIMESTAMPING` of a TCP socket on and off, and reads its stamps.
//!
//! This is the only module that knows the kernel's formats; `stamped_tcp` decides when the stamps are read.
//!
//! See `Documentation/networking/timestamping.rst` of the kernel. Found by experiment on Linux 6.18, over IPv4 and IPv6:
//!
//! - `MSG_PEEK` returns the stamp of received bytes, so that the read itself can stay as it is. The stamp is that of the
//!   packet buffer with the first unread byte. The kernel joins the segments of one flow in a buffer while nobody reads
//!   them, which then has the stamp of the newest.
//! - `MSG_PEEK` takes the pending error of the socket, such as that of a reset. A read that follows sees the end of the
//!   stream instead.
//! - Reading the error queue neither takes nor sets the pending error of the socket.

use crate::sink::{ProbeSocket, SendStage};
use std::{
    io::{self, IoSliceMut},
    os::fd::AsRawFd,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use uapi::{
    Errno, MsghdrMut,
    c::{
        self, MSG_ERRQUEUE, MSG_PEEK, SO_EE_ORIGIN_TIMESTAMPING, SOF_TIMESTAMPING_OPT_ID,
        SOF_TIMESTAMPING_OPT_ID_TCP, SOF_TIMESTAMPING_OPT_TSONLY, SOF_TIMESTAMPING_RX_SOFTWARE,
        SOF_TIMESTAMPING_SOFTWARE, SOF_TIMESTAMPING_TX_ACK, SOF_TIMESTAMPING_TX_SCHED,
        SOF_TIMESTAMPING_TX_SOFTWARE, SOL_SOCKET,
    },
};

/// `SO_TIMESTAMPING_NEW` of the kernel's `asm-generic/socket.h` (Linux 5.1), whose times have 64 bits on every
/// architecture. It is the type of the control messages, too.
const SO_TIMESTAMPING_NEW: c::c_int = 65;

/// Reports stamps with the index of their byte instead of the byte itself.
const REPORT_FLAGS: u32 = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID | SOF_TIMESTAMPING_OPT_TSONLY;
const STAMP_FLAGS: u32 = REPORT_FLAGS
    | SOF_TIMESTAMPING_TX_SCHED
    | SOF_TIMESTAMPING_TX_SOFTWARE
    | SOF_TIMESTAMPING_TX_ACK
    | SOF_TIMESTAMPING_RX_SOFTWARE;

/// Turns the stamps on. The first byte that is written next has the index 0.
///
/// Returns `false` if the kernel does not support that, or if the option is set already: the program may have set it, for
/// an accepted socket on its listener.
pub(super) fn enable(socket: ProbeSocket<'_>) -> bool {
    if cfg!(any(target_arch = "sparc", target_arch = "sparc64")) {
        return false; // where the number means another option
    }
    let mut present = [0_u32; 2];
    let asked = uapi::getsockopt(socket.as_raw_fd(), SOL_SOCKET, SO_TIMESTAMPING_NEW, &mut present[..]);
    if asked.is_err() || present[0] != 0 {
        return false;
    }
    // `OPT_ID_TCP` (Linux 6.2) makes the index right if earlier bytes are not acknowledged yet. There are none here.
    set(socket, STAMP_FLAGS | SOF_TIMESTAMPING_OPT_ID_TCP).or_else(|_| set(socket, STAMP_FLAGS)).is_ok()
}

/// Turns the stamps off. Bytes that are on their way are still stamped.
pub(super) fn disable(socket: ProbeSocket<'_>) {
    let _ = set(socket, REPORT_FLAGS);
}

fn set(socket: ProbeSocket<'_>, flags: u32) -> uapi::Result<()> {
    uapi::setsockopt(socket.as_raw_fd(), SOL_SOCKET, SO_TIMESTAMPING_NEW, &flags)
}

/// The stamp of a byte that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SendStamp {
    /// The index of the byte, modulo 2^32.
    pub(super) byte: u32,
    pub(super) stage: SendStage,
    pub(super) at: SystemTime,
}

/// Takes the next message from the error queue. Returns `None` if there is no more, and `Some(None)` for a message that
/// is no stamp.
pub(super) fn next_send_stamp(socket: ProbeSocket<'_>) -> Option<Option<SendStamp>> {
    let mut control = [0; CONTROL_BYTES];
    let (_, messages) = receive(socket, &mut [], &mut control, MSG_ERRQUEUE).ok()?;
    let (mut at, mut origin) = (None, None);
    for (kind, data) in messages {
        match kind {
            MessageKind::Stamp => at = software_stamp(data),
            MessageKind::Error => origin = send_stage(data),
            MessageKind::Other => {}
        }
    }
    Some(at.zip(origin).map(|(at, (byte, stage))| SendStamp { byte, stage, at }))
}

/// Returns when the first byte that has not been read arrived; `None` if there is no such byte, or no stamp of it.
///
/// # Errors
///
/// Returns the pending error of the socket, which is thereby taken: the read that it was meant for must return it.
pub(super) fn first_unread_stamp(socket: ProbeSocket<'_>) -> io::Result<Option<SystemTime>> {
    let (mut byte, mut control) = ([0], [0; CONTROL_BYTES]);
    match receive(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, MSG_PEEK) {
        Ok((0, _)) => Ok(None),
        Ok((_, messages)) => {
            let stamps = messages.filter(|(kind, _)| matches!(kind, MessageKind::Stamp));
            Ok(stamps.filter_map(|(_, data)| software_stamp(data)).next())
        }
        Err(Errno(c::EAGAIN | c::EINTR)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Room for a stamp and an extended error with the address of who reported it.
const CONTROL_BYTES: usize = 256;

enum MessageKind {
    Stamp,
    Error,
    Other,
}

/// Calls `recvmsg`. Returns the number of bytes and the control messages.
fn receive<'c>(
    socket: ProbeSocket<'_>,
    bufs: &mut [IoSliceMut<'_>],
    control: &'c mut [u8; CONTROL_BYTES],
    flags: c::c_int,
) -> uapi::Result<(usize, impl Iterator<Item = (MessageKind, &'c [u8])>)> {
    let mut header =
        MsghdrMut { iov: bufs, control: Some(&mut control[..]), name: uapi::sockaddr_none_mut(), flags: 0 };
    let (received, _, mut control) = uapi::recvmsg(socket.as_raw_fd(), &mut header, flags)?;
    let messages = std::iter::from_fn(move || {
        let (_, header, data) = uapi::cmsg_read(&mut control).ok()?;
        Some((MessageKind::of(&header), data))
    });
    Ok((received.len(), messages))
}

impl MessageKind {
    fn of(header: &c::cmsghdr) -> Self {
        match (header.cmsg_level, header.cmsg_type) {
            (SOL_SOCKET, SO_TIMESTAMPING_NEW) => MessageKind::Stamp,
            (c::IPPROTO_IP, c::IP_RECVERR) | (c::IPPROTO_IPV6, c::IPV6_RECVERR) => MessageKind::Error,
            _ => MessageKind::Other,
        }
    }
}

/// Returns the first of the times of a `struct scm_timestamping64`, which is that of the kernel; those of the hardware
/// follow.
fn software_stamp(data: &[u8]) -> Option<SystemTime> {
    let (secs, rest) = data.split_first_chunk()?;
    let nanos = rest.first_chunk()?;
    let secs = u64::try_from(i64::from_ne_bytes(*secs)).ok()?;
    let nanos = u32::try_from(i64::from_ne_bytes(*nanos)).ok()?;
    (secs > 0).then(|| UNIX_EPOCH + Duration::new(secs, nanos))
}

/// Returns the index of the byte and its stage from a `struct sock_extended_err`; `None` if that is another error.
fn send_stage(data: &[u8]) -> Option<(u32, SendStage)> {
    let word = |offset: usize| Some(u32::from_ne_bytes(*data.get(offset..)?.first_chunk()?));
    if data.get(4) != Some(&SO_EE_ORIGIN_TIMESTAMPING) {
        return None;
    }
    // `SCM_TSTAMP_*` of the kernel's `linux/errqueue.h`.
    let stage = match word(8)? {
        0 => SendStage::Sent,
        1 => SendStage::Scheduled,
        2 => SendStage::Acked,
        _ => return None,
    };
    Some((word(12)?, stage))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        os::fd::AsFd,
    };

    fn connected() -> (TcpStream, TcpStream, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        (stream, peer, listener)
    }

    #[test]
    fn each_stage_of_a_byte_is_stamped() {
        let (mut stream, mut peer, _listener) = connected();
        assert!(enable(stream.as_fd()));
        let begin = SystemTime::now();
        for (data, byte) in [(&b"hello"[..], 4), (b"x", 5)] {
            stream.write_all(data).unwrap();
            peer.read_exact(&mut vec![0; data.len()]).unwrap();
            let stamps: Vec<_> = std::iter::from_fn(|| next_send_stamp(stream.as_fd())).flatten().collect();
            let stages: Vec<_> = stamps.iter().map(|stamp| (stamp.byte, stamp.stage)).collect();
            assert_eq!(
                stages,
                [SendStage::Scheduled, SendStage::Sent, SendStage::Acked].map(|stage| (byte, stage))
            );
            assert!(stamps.iter().all(|stamp| stamp.at >= begin && stamp.at <= SystemTime::now()));
        }
        assert_eq!(next_send_stamp(stream.as_fd()), None);
    }

    #[test]
    fn a_peek_takes_no_bytes_and_the_error_of_the_socket() {
        let (mut stream, mut peer, _listener) = connected();
        assert!(enable(stream.as_fd()));
        assert_eq!(first_unread_stamp(stream.as_fd()).unwrap(), None);
        peer.write_all(b"hello").unwrap();
        for _ in 0..2 {
            first_unread_stamp(stream.as_fd()).unwrap();
        }
        stream.read_exact(&mut [0; 5]).unwrap();
        socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        let error = first_unread_stamp(stream.as_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn sockets_that_cannot_be_stamped_are_left_alone() {
        let (stream, _peer, listener) = connected();
        assert!(!enable(listener.as_fd()), "it sends no bytes to be counted");
        set(stream.as_fd(), SOF_TIMESTAMPING_SOFTWARE).unwrap();
        assert!(!enable(stream.as_fd()), "the program uses the option itself");
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(!enable(file.as_fd()), "it knows no such option");
    }
}
