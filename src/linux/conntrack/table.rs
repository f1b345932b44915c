//! The kernel's conntrack table, queried over a netlink socket.

use super::{entry::ParsedEntry, problem::ConntrackProblem, request::RequestTemplates, tuple::Tuple};
use netlink_packet_core::{ErrorBuffer, ErrorMessage, NLMSG_ERROR, NetlinkBuffer, Parseable};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use std::io;

/// The conntrack table of the network namespace in which it was opened, whichever thread uses it.
#[derive(Debug)]
pub(super) struct Table {
    socket: Socket,
    templates: RequestTemplates,
    /// The sequence number of the last request.
    sequence_number: u32,
    requests: Vec<u8>,
    reply: Vec<u8>,
}

/// The entry of a connection; `None` if it has none.
pub(super) type QueryResult = Result<Option<ParsedEntry>, ConntrackProblem>;

/// How many entries can be queried with one system call. As many replies, none of them a kilobyte, are far from filling
/// the socket's buffer.
pub(super) const MAX_BATCH: usize = 16;
/// The longest reply for one entry (`NLMSG_GOODSIZE`).
const MAX_REPLY_BYTES: usize = 8192;
/// The length of `struct nfgenmsg`, which comes before the attributes.
const NFGENMSG_BYTES: usize = 4;

impl Table {
    /// Opens the table in the namespace of the calling thread.
    ///
    /// # Errors
    ///
    /// Fails if the kernel does not answer a query.
    pub(super) fn open(zone: Option<u16>) -> Result<Self, ConntrackProblem> {
        let socket = connect().map_err(|error| problem(&error))?;
        let mut table = Table {
            socket,
            templates: RequestTemplates::new(zone),
            sequence_number: 0,
            requests: Vec::new(),
            reply: Vec::with_capacity(MAX_REPLY_BYTES),
        };
        table.query(&[Tuple::NONE]).pop().unwrap_or(Ok(None))?;
        Ok(table)
    }

    /// Queries the entries of up to [`MAX_BATCH`] connections together. Returns the results in their order.
    pub(super) fn query(&mut self, tuples: &[Tuple]) -> Vec<QueryResult> {
        debug_assert!(tuples.len() <= MAX_BATCH);
        let first = self.sequence_number.wrapping_add(1);
        self.sequence_number = self.sequence_number.wrapping_add(tuples.len() as u32);
        let mut results: Vec<Option<QueryResult>> = tuples.iter().map(|_| None).collect();
        let error = self.exchange(tuples, first, &mut results).err();
        let missing = || Err(error.as_ref().map_or_else(no_reply, problem));
        results.into_iter().map(|result| result.unwrap_or_else(missing)).collect()
    }

    /// Sends requests with sequence numbers from `first` on, and receives the replies: the kernel has written them
    /// when `send` returns.
    fn exchange(
        &mut self,
        tuples: &[Tuple],
        first: u32,
        results: &mut [Option<QueryResult>],
    ) -> io::Result<()> {
        if tuples.is_empty() {
            return Ok(());
        }
        self.requests.clear();
        for (tuple, index) in tuples.iter().zip(0..) {
            self.templates.append(&mut self.requests, tuple, first.wrapping_add(index));
        }
        self.socket.send(&self.requests, 0)?;
        while results.iter().any(Option::is_none) {
            self.reply.clear();
            self.socket.recv(&mut self.reply, 0)?;
            let message = NetlinkBuffer::new_checked(&self.reply[..]).map_err(malformed)?;
            let index = message.sequence_number().wrapping_sub(first) as usize;
            // Any other sequence number is that of an earlier request, for which nobody waits any more.
            if let (Some(tuple), Some(result)) = (tuples.get(index), results.get_mut(index)) {
                *result = Some(match parse(&message, tuple) {
                    Ok(entry) => Ok(Some(entry)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(problem(&error)),
                });
            }
        }
        Ok(())
    }
}

fn connect() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.set_non_blocking(true)?;
    Ok(socket)
}

fn parse(message: &NetlinkBuffer<&[u8]>, tuple: &Tuple) -> io::Result<ParsedEntry> {
    if message.message_type() == NLMSG_ERROR {
        let error =
            ErrorBuffer::new_checked(&message.payload()).and_then(|error| ErrorMessage::parse(&error));
        return Err(error.map_err(malformed)?.to_io());
    }
    let attributes = message.payload().get(NFGENMSG_BYTES..).ok_or_else(|| malformed("no header"))?;
    Ok(ParsedEntry::parse(attributes, tuple))
}

fn malformed(why: impl ToString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

fn no_reply() -> ConntrackProblem {
    ConntrackProblem::unavailable("netlink", &malformed("no answer"))
}

/// Classifies an error of the socket or of the kernel's reply.
///
/// A kernel without netlink or without its part for connection tracking has many ways to say so; nfnetlink says
/// `EINVAL` for a subsystem that is not there.
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
    fn errors_of_the_kernel_are_classified() {
        let problem = |code| problem(&io::Error::from_raw_os_error(code));
        assert_eq!(problem(libc::EPERM), ConntrackProblem::NotPermitted);
        assert_eq!(problem(libc::EPROTONOSUPPORT), ConntrackProblem::NotSupported);
        assert_eq!(problem(libc::EINVAL), ConntrackProblem::NotSupported);
        let other = problem(libc::EMFILE).to_string();
        assert!(other.starts_with("conntrack cannot be read: netlink: "), "{other}");
    }
}
