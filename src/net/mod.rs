//! Sockets: what the TCP connector and the stub resolver share.
//!
//! Both open sockets of their own, so that each attempt can be recorded with its own error and shown to the probes.
//! [`TcpAttempt`] is one TCP handshake with one address, and [`SocketOptions`] is what is set on a socket before it
//! connects. [`TracedIo`] is a stream whose reads and writes are recorded; [`StampedIo`](stamped_io::StampedIo) reads and
//! writes a sampled one while the kernel stamps its bytes. `connect/` decides which addresses are tried and when,
//! `resolve/` which nameservers; neither imports the other for its sockets.

#[cfg(any(feature = "resolve", feature = "server"))]
mod probed_socket;
#[cfg(all(feature = "timestamping", target_os = "linux"))]
mod so_timestamping;
#[cfg(feature = "resolve")]
mod socket_options;
mod stamped_io;
#[cfg(all(feature = "timestamping", target_os = "linux"))]
mod stamped_tcp;
#[cfg(feature = "resolve")]
mod tcp_attempt;
mod traced_io;

#[cfg(any(feature = "resolve", feature = "server"))]
pub(crate) use self::probed_socket::ProbedSocket;
pub use self::traced_io::TracedIo;
#[cfg(feature = "resolve")]
pub(crate) use self::{
    socket_options::SocketOptions,
    tcp_attempt::{FailedAttempt, TcpAttempt},
};
