//! [`LentSocket`]: the socket of an open connection, for probes that look at it while its owner does not.

use crate::{sink::probe::ProbeSocket, sync::IgnorePoison};
use std::{
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::Mutex,
};

/// The descriptor of a connection's socket from when its owner has it until before the owner closes it.
#[derive(Debug, Default)]
pub(super) struct LentSocket(Mutex<Option<RawFd>>);

impl LentSocket {
    /// Lends the socket. The owner must call [`take_back`](Self::take_back) before it closes the socket: the number of
    /// its descriptor may be reused afterwards.
    pub(super) fn lend(&self, socket: ProbeSocket<'_>) {
        *self.0.lock().ignore_poison() = Some(socket.as_raw_fd());
    }

    pub(super) fn take_back(&self) {
        *self.0.lock().ignore_poison() = None;
    }

    /// Returns another descriptor of the socket, so that probes are called without the lock. `None` if the socket is not
    /// lent, or the process has no descriptor left.
    pub(super) fn duplicate(&self) -> Option<OwnedFd> {
        let fd = self.0.lock().ignore_poison();
        uapi::fcntl_dupfd_cloexec((*fd)?, 0).ok().map(OwnedFd::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::TcpListener, os::fd::AsFd};

    #[test]
    fn a_duplicate_is_the_same_socket_until_it_is_taken_back() {
        let (lent, socket) = (LentSocket::default(), TcpListener::bind("127.0.0.1:0").unwrap());
        assert!(lent.duplicate().is_none());
        lent.lend(socket.as_fd());
        let duplicate = TcpListener::from(lent.duplicate().unwrap());
        assert_eq!(duplicate.local_addr().unwrap(), socket.local_addr().unwrap());
        lent.take_back();
        assert!(lent.duplicate().is_none());
    }
}
