//! The kernel's table of connections, asked over netlink (`nfnetlink_conntrack.h`).

use super::{
    entry::{Flow, Found},
    problem::ConntrackProblem,
};
use netlink_packet_core::{
    DefaultNla, ErrorBuffer, ErrorMessage, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, Parseable,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterProtoFamily,
    conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use std::io;

/// A socket of the network namespace in which it was opened, whichever thread uses it.
#[derive(Debug)]
pub(super) struct Table {
    socket: Socket,
    zone: Option<u16>,
    sequence: u32,
    reply: Vec<u8>,
}

/// `NLMSG_GOODSIZE`: no answer for one entry is longer.
const LONGEST_REPLY: usize = 8192;
/// `struct nfgenmsg`, before the attributes.
const HEADER: usize = 4;
const CTA_ZONE: u16 = 18;

impl Table {
    /// Opens it in the namespace of the calling thread, and sees whether the kernel answers.
    pub(super) fn open(zone: Option<u16>) -> Result<Self, ConntrackProblem> {
        let connected = || {
            let mut socket = Socket::new(NETLINK_NETFILTER)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // It answers before `send` returns.
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        let socket = connected().map_err(|error| problem(&error))?;
        let mut table = Table { socket, zone, sequence: 0, reply: Vec::with_capacity(LONGEST_REPLY) };
        table.entry(&Flow::NONE)?;
        Ok(table)
    }

    /// The entry of that connection.
    pub(super) fn entry(&mut self, flow: &Flow) -> Result<Option<Found>, ConntrackProblem> {
        match self.ask(flow) {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(problem(&error)),
        }
    }

    fn ask(&mut self, flow: &Flow) -> io::Result<Found> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&request(flow, self.zone, self.sequence), 0)?;
        loop {
            self.reply.clear();
            self.socket.recv(&mut self.reply, 0)?;
            let message = NetlinkBuffer::new_checked(&self.reply[..]).map_err(malformed)?;
            if message.sequence_number() != self.sequence {
                continue;
            }
            if message.message_type() == NLMSG_ERROR {
                let error = ErrorBuffer::new_checked(&message.payload())
                    .and_then(|error| ErrorMessage::parse(&error));
                return Err(error.map_err(malformed)?.to_io());
            }
            let attributes = message.payload().get(HEADER..).ok_or_else(|| malformed("no header"))?;
            return Ok(Found::read(attributes, flow));
        }
    }
}

fn request(flow: &Flow, zone: Option<u16>, sequence: u32) -> Vec<u8> {
    let family = if flow.local.is_ipv4() { NetfilterProtoFamily::IPv4 } else { NetfilterProtoFamily::IPv6 };
    let tuple = vec![
        Tuple::Ip(vec![
            IPTuple::SourceAddress(flow.local.ip()),
            IPTuple::DestinationAddress(flow.remote.ip()),
        ]),
        Tuple::Proto(vec![
            ProtoTuple::Protocol(if flow.is_udp { Protocol::Udp } else { Protocol::Tcp }),
            ProtoTuple::SourcePort(flow.local.port()),
            ProtoTuple::DestinationPort(flow.remote.port()),
        ]),
    ];
    let mut attributes = vec![ConntrackAttribute::CtaTupleOrig(tuple)];
    if let Some(zone) = zone {
        let zone = DefaultNla::new(CTA_ZONE, zone.to_be_bytes().into());
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

fn malformed(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
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
