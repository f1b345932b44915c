//! Sockets: what the TCP connector and the stub resolver share.
//!
//! Both open sockets of their own, so that each attempt can be recorded with its own error and shown to the probes.
//! [`TcpAttempt`] is one TCP handshake with one address, [`SocketOptions`] what is set on a socket before it connects,
//! [`TracedIo`] a stream whose reads and writes are recorded.
//! `connect/` decides which addresses are tried and when, `resolve/` which nameservers; neither imports the other for
//! its sockets.

#[cfg(feature = "resolve")]
mod probed_socket;
#[cfg(feature = "resolve")]
mod socket_options;
#[cfg(feature = "resolve")]
mod tcp_attempt;
mod traced_io;

pub use self::traced_io::TracedIo;
#[cfg(feature = "resolve")]
pub(crate) use self::{
    probed_socket::ProbedSocket,
    socket_options::SocketOptions,
    tcp_attempt::{FailedAttempt, TcpAttempt},
};
