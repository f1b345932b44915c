use crate::sink::ProbeSocket;
#[cfg(unix)]
use std::os::fd::AsFd as AsOsSocket;
#[cfg(windows)]
use std::os::windows::io::AsSocket as AsOsSocket;

/// A socket that can be lent to probes, on every platform under one name.
pub(crate) trait ProbedSocket {
    /// Lends the socket to a probe.
    fn probe_socket(&self) -> ProbeSocket<'_>;
}

impl<S: AsOsSocket> ProbedSocket for S {
    #[inline]
    fn probe_socket(&self) -> ProbeSocket<'_> {
        #[cfg(unix)]
        return self.as_fd();
        #[cfg(windows)]
        return self.as_socket();
    }
}
