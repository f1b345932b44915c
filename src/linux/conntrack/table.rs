//! The kernel's table of connections, asked over netlink (`nfnetlink_conntrack.h`).

use super::{
    entry::{ParsedEntry, Tuple, cta, cta_tuple},
    problem::ConntrackProblem,
};
use netlink_packet_core::{ErrorBuffer, ErrorMessage, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer, Parseable};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use std::{io, net::IpAddr};

/// A socket of the network namespace in which it was opened, whichever thread uses it.
#[derive(Debug)]
pub(super) struct Table {
    socket: Socket,
    zone: Option<u16>,
    sequence: u32,
    request: Vec<u8>,
    reply: Vec<u8>,
}

/// The entry of a connection, if there is one.
pub(super) type QueryResult = Result<Option<ParsedEntry>, ConntrackProblem>;

/// How many may be asked for with one system call. As many results, none of them a kilobyte, are far from filling the
/// socket's buffer.
pub(super) const MAX_BATCH: usize = 16;
/// `NLMSG_GOODSIZE`: no answer for one entry is longer.
const MAX_REPLY_BYTES: usize = 8192;
/// `struct nfgenmsg`, before the attributes.
const HEADER: usize = 4;

impl Table {
    /// Opens it in the namespace of the calling thread, and sees whether the kernel results.
    pub(super) fn open(zone: Option<u16>) -> Result<Self, ConntrackProblem> {
        let connected = || {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        let socket = connected().map_err(|error| problem(&error))?;
        let (request, reply) = (Vec::new(), Vec::with_capacity(MAX_REPLY_BYTES));
        let mut table = Table { socket, zone, sequence: 0, request, reply };
        table.entries(&[Tuple::NONE]).pop().unwrap_or(Ok(None))?;
        Ok(table)
    }

    /// The entries of so many connections, in their order. They are asked for together, [`MAX_BATCH`] at most.
    pub(super) fn entries(&mut self, tuples: &[Tuple]) -> Vec<QueryResult> {
        debug_assert!(tuples.len() <= MAX_BATCH);
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(tuples.len() as u32);
        let mut results: Vec<Option<QueryResult>> = tuples.iter().map(|_| None).collect();
        let failure = self.exchange(tuples, first, &mut results).err();
        let missing = || Err(failure.as_ref().map_or_else(unanswered, problem));
        results.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect()
    }

    /// The kernel results before `send` returns.
    fn exchange(
        &mut self,
        tuples: &[Tuple],
        first: u32,
        results: &mut [Option<QueryResult>],
    ) -> io::Result<()> {
        if tuples.is_empty() {
            return Ok(());
        }
        self.request.clear();
        for (index, tuple) in tuples.iter().enumerate() {
            write_request(&mut self.request, tuple, self.zone, first.wrapping_add(index as u32));
        }
        self.socket.send(&self.request, 0)?;
        while results.iter().any(Option::is_none) {
            self.reply.clear();
            self.socket.recv(&mut self.reply, 0)?;
            let message = NetlinkBuffer::new_checked(&self.reply[..]).map_err(malformed)?;
            let index = message.sequence_number().wrapping_sub(first) as usize;
            // Else it is the answer to an earlier question, for which nobody waits any more.
            if let (Some(tuple), Some(answer)) = (tuples.get(index), results.get_mut(index)) {
                *answer = Some(match read(&message, tuple) {
                    Ok(found) => Ok(Some(found)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(problem(&error)),
                });
            }
        }
        Ok(())
    }
}

fn read(message: &NetlinkBuffer<&[u8]>, tuple: &Tuple) -> io::Result<ParsedEntry> {
    if message.message_type() == NLMSG_ERROR {
        let error =
            ErrorBuffer::new_checked(&message.payload()).and_then(|error| ErrorMessage::parse(&error));
        return Err(error.map_err(malformed)?.to_io());
    }
    let attributes = message.payload().get(HEADER..).ok_or_else(|| malformed("no header"))?;
    Ok(ParsedEntry::parse(attributes, tuple))
}

/// Asks for the entry whose original direction is the tuple, behind what else is asked: `struct nlmsghdr`, `struct
/// nfgenmsg`, attributes. Written in index, as it is asked more often than anything else.
pub(super) fn write_request(bytes: &mut Vec<u8>, tuple: &Tuple, zone: Option<u16>, sequence: u32) {
    let family = if tuple.local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
    let protocol = if tuple.is_udp { libc::IPPROTO_UDP } else { libc::IPPROTO_TCP } as u8;
    let begin = bytes.len();
    bytes.extend([0; 4]); // the length, which is not known yet
    bytes.extend(CT_GET.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]); // to the kernel
    bytes.extend([family, 0, 0, 0]);
    nested(bytes, cta::TUPLE_ORIG, |bytes| {
        nested(bytes, cta_tuple::IP, |bytes| {
            // `enum ctattr_ip`: source and destination, first of IPv4, then of IPv6.
            for (index, ip) in [tuple.local.ip(), tuple.remote.ip()].into_iter().enumerate() {
                match ip {
                    IpAddr::V4(ip) => attribute(bytes, 1 + index as u16, &ip.octets()),
                    IpAddr::V6(ip) => attribute(bytes, 3 + index as u16, &ip.octets()),
                }
            }
        });
        nested(bytes, cta_tuple::PROTO, |bytes| {
            // `enum ctattr_l4proto`
            attribute(bytes, 1, &[protocol]);
            attribute(bytes, 2, &tuple.local.port().to_be_bytes());
            attribute(bytes, 3, &tuple.remote.port().to_be_bytes());
        });
    });
    if let Some(zone) = zone {
        attribute(bytes, cta::ZONE, &zone.to_be_bytes());
    }
    let length = (bytes.len() - begin) as u32; // some hundred bytes at most
    bytes[begin..begin + 4].copy_from_slice(&length.to_ne_bytes());
}

/// `IPCTNL_MSG_CT_GET` of `NFNL_SUBSYS_CTNETLINK`
const CT_GET: u16 = (libc::NFNL_SUBSYS_CTNETLINK as u16) << 8 | 1;

pub(super) fn nested(bytes: &mut Vec<u8>, kind: u16, inside: impl FnOnce(&mut Vec<u8>)) {
    let begin = bytes.len();
    attribute(bytes, kind | libc::NLA_F_NESTED as u16, &[]);
    inside(bytes);
    let length = (bytes.len() - begin) as u16;
    bytes[begin..begin + 2].copy_from_slice(&length.to_ne_bytes());
}

pub(super) fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend((4 + value.len() as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn malformed(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

fn unanswered() -> ConntrackProblem {
    ConntrackProblem::unavailable("netlink", &malformed("no answer"))
}

/// Without netlink or its part for connection tracking a kernel has many ways to say no. `EINVAL` is the word of
/// nfnetlink for a subsystem that is not there.
fn problem(error: &io::Error) -> ConntrackProblem {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => ConntrackProblem::NotPermitted,
        Some(
            libc::EINVAL
            | libc::ENOSYS
            | libc::EOPNOTSUPP
            | libc::EPROTONOSUPPORT
            | libc::EAFNOSUPPORT
            | libc::ECONNREFUSED,
        ) => ConntrackProblem::NotSupported,
        _ => ConntrackProblem::unavailable("netlink", error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::{DefaultNla, NetlinkHeader, NetlinkMessage, NetlinkPayload};
    use netlink_packet_netfilter::{
        NetfilterHeader, NetfilterMessage, NetfilterProtoFamily,
        conntrack::{
            ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple as TupleAttribute,
        },
    };

    fn as_the_library_writes_it(tuple: &Tuple, zone: Option<u16>, sequence: u32) -> Vec<u8> {
        let family =
            if tuple.local.is_ipv4() { NetfilterProtoFamily::IPv4 } else { NetfilterProtoFamily::IPv6 };
        let attributes_of_tuple = vec![
            TupleAttribute::Ip(vec![
                IPTuple::SourceAddress(tuple.local.ip()),
                IPTuple::DestinationAddress(tuple.remote.ip()),
            ]),
            TupleAttribute::Proto(vec![
                ProtoTuple::Protocol(if tuple.is_udp { Protocol::Udp } else { Protocol::Tcp }),
                ProtoTuple::SourcePort(tuple.local.port()),
                ProtoTuple::DestinationPort(tuple.remote.port()),
            ]),
        ];
        let mut attributes = vec![ConntrackAttribute::CtaTupleOrig(attributes_of_tuple)];
        if let Some(zone) = zone {
            let zone = DefaultNla::new(cta::ZONE, zone.to_be_bytes().into());
            attributes.push(ConntrackAttribute::Other(zone));
        }
        let message =
            NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), ConntrackMessage::Get(attributes));
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        header.sequence_number = sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    #[test]
    fn requests_are_those_of_the_library() {
        let mut bytes = Vec::new();
        for (is_udp, zone) in [(false, None), (true, None), (false, Some(5))] {
            for ends in [["10.0.0.1:1000", "192.0.2.1:443"], ["[fd00::1]:1000", "[2001:db8::1]:443"]] {
                let [local, remote] = ends.map(|end| end.parse().unwrap());
                let tuple = Tuple { is_udp, local, remote };
                bytes.clear();
                write_request(&mut bytes, &tuple, zone, 0x0102_0304);
                assert_eq!(bytes, as_the_library_writes_it(&tuple, zone, 0x0102_0304));
            }
        }
    }

    #[test]
    fn what_the_kernel_says() {
        let problem = |code| problem(&io::Error::from_raw_os_error(code));
        assert_eq!(problem(libc::EPERM), ConntrackProblem::NotPermitted);
        assert_eq!(problem(libc::EPROTONOSUPPORT), ConntrackProblem::NotSupported);
        assert_eq!(problem(libc::EINVAL), ConntrackProblem::NotSupported);
        let other = problem(libc::EMFILE).to_string();
        assert!(other.starts_with("conntrack cannot be read: netlink: "), "{other}");
    }
}
