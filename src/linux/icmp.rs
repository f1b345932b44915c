//! Reads which router or host refused a handshake: ICMP errors from the socket's error queue (`IP_RECVERR` of ip(7)).

use crate::{ProbeSocket, record::IcmpError};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd,
};
use uapi::c;

/// Makes the kernel keep the ICMP errors of a socket, or not.
///
/// During a handshake over IPv4 it does so by itself (Linux 5.9 and newer). Over IPv6 it has to be told, but not before
/// the SYN is sent: an error that came at once would end the attempt, which otherwise has a second try. It has to be
/// undone after the handshake: any ICMP error would end an established connection. An error that comes over IPv6 before
/// this call ends the attempt, but is not kept.
pub(super) fn set_enabled(socket: ProbeSocket<'_>, remote: SocketAddr, on: bool) {
    if remote.is_ipv6() {
        // Where this fails the attempt goes on as usual, and it is not known who refused it.
        let _ = uapi::setsockopt(socket.as_raw_fd(), c::IPPROTO_IPV6, c::IPV6_RECVERR, &c::c_int::from(on));
    }
}

/// Returns the last ICMP error, which is the one that ended the attempt. Empties the queue.
pub(super) fn take_last(socket: ProbeSocket<'_>) -> Option<IcmpError> {
    // An attempt has a few SYNs at most, and usually one error.
    let errors = (0..16).map_while(|_| take_next(socket));
    let icmp_errors = errors.filter_map(|error| match error {
        QueuedError::Icmp(error) => Some(error),
        QueuedError::Other => None,
    });
    icmp_errors.last()
}

/// An error of the queue.
enum QueuedError {
    Icmp(IcmpError),
    /// An error of this host, or one that cannot be parsed.
    Other,
}

/// Removes and returns the next error of the queue.
fn take_next(socket: ProbeSocket<'_>) -> Option<QueuedError> {
    let mut packet = [0u8; 0];
    let mut control = [0u8; 256];
    let mut message = uapi::MsghdrMut {
        iov: &mut [&mut packet[..]][..],
        control: Some(&mut control[..]),
        name: uapi::sockaddr_none_mut(),
        flags: 0,
    };
    let (_, _, mut control) =
        uapi::recvmsg(socket.as_raw_fd(), &mut message, c::MSG_ERRQUEUE | c::MSG_DONTWAIT).ok()?;
    let mut messages = std::iter::from_fn(|| uapi::cmsg_read(&mut control).ok());
    let icmp_error = messages.find_map(|(_, header, data)| match (header.cmsg_level, header.cmsg_type) {
        (c::IPPROTO_IP, c::IP_RECVERR) | (c::IPPROTO_IPV6, c::IPV6_RECVERR) => parse(data),
        _ => None,
    });
    Some(icmp_error.map_or(QueuedError::Other, QueuedError::Icmp))
}

/// Parses a `struct sock_extended_err` (the kernel's `linux/errqueue.h`) and the address of the offender after it.
fn parse(data: &[u8]) -> Option<IcmpError> {
    const SO_EE_ORIGIN_ICMP: u8 = 2;
    const SO_EE_ORIGIN_ICMP6: u8 = 3;
    let (&[_, _, _, _, origin, icmp_type, code, ..], offender) = data.split_first_chunk::<16>()?;
    if !matches!(origin, SO_EE_ORIGIN_ICMP | SO_EE_ORIGIN_ICMP6) {
        return None;
    }
    Some(IcmpError { origin: ip(offender)?.into(), icmp_type, code })
}

/// Parses the address of a `struct sockaddr_in` or `sockaddr_in6`.
fn ip(sockaddr: &[u8]) -> Option<IpAddr> {
    const AF_INET: u16 = c::AF_INET as u16;
    const AF_INET6: u16 = c::AF_INET6 as u16;
    match u16::from_ne_bytes(*sockaddr.first_chunk()?) {
        AF_INET => Some(Ipv4Addr::from(*sockaddr.get(4..)?.first_chunk()?).into()),
        AF_INET6 => Some(Ipv6Addr::from(*sockaddr.get(8..)?.first_chunk()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{net::UdpSocket, os::fd::AsFd};

    /// The error that Linux 6.18 returned for a host that a router reported as unreachable.
    const V4: &str = "71000000020301000000000000000000020000000a0901010000000000000000";
    const V6: &str =
        "650000000301000000000000000000000a00000000000000fd09000000000000000000000000000100000000";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn errors_of_both_ip_versions_are_parsed() {
        let text = |hex| parse(&bytes(hex)).unwrap().to_string();
        assert_eq!(text(V4), "host unreachable (ICMP type 3 code 1) said by 10.9.1.1");
        assert_eq!(text(V6), "no route to destination (ICMPv6 type 1 code 0) said by fd09::1");
        for hex in [V4, V6] {
            let mut local = bytes(hex);
            local[4] = 1; // SO_EE_ORIGIN_LOCAL
            assert_eq!(parse(&local), None);
        }
    }

    #[test]
    fn truncated_errors_are_rejected() {
        for (hex, min_len) in [(V4, 16 + 8), (V6, 16 + 24)] {
            let bytes = bytes(hex);
            assert!((0..min_len).all(|len| parse(&bytes[..len]).is_none()));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn an_empty_queue_has_no_error() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(take_last(socket.as_fd()), None);
    }

    /// UDP over the loopback interface has errors without a network.
    #[test]
    fn the_last_error_is_taken_and_the_queue_emptied() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let on: c::c_int = 1;
        uapi::setsockopt(socket.as_raw_fd(), c::IPPROTO_IP, c::IP_RECVERR, &on).unwrap();
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // The second call may return the error of the first.
        let sent = (0..2).filter(|_| socket.send_to(b"x", closed).is_ok()).count();
        assert!(sent > 0);
        let error = take_last(socket.as_fd()).unwrap();
        assert_eq!(error.to_string(), "port unreachable (ICMP type 3 code 3) said by 127.0.0.1");
        assert_eq!(take_last(socket.as_fd()), None);
    }
}
