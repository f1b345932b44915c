//! Recorders without a network, for the benches of this repository. Not part of the public interface and exempt from
//! semver.

#[cfg(target_os = "linux")]
pub use crate::linux::bench::Conntrack;
use crate::{
    error::FailureDetail,
    record::{Failure, Text},
    sink::{ConnRecorder, ConnRef, TraceSink},
};
pub use crate::{resolve::bench::Exchange, tls::bench::Handshake};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

/// The number on Linux.
const ECONNREFUSED: i32 = 111;
const LOCAL: SocketAddr = address(2, 40_000);
const REMOTE: SocketAddr = address(1, 443);

/// Returns an address from the block for documentation (RFC 5737).
pub(crate) const fn address(host: u8, port: u16) -> SocketAddr {
    SocketAddr::V4(std::net::SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, host), port))
}

/// An established connection, which is closed when it is dropped.
#[derive(Debug)]
pub struct Conn(ConnRecorder);

#[cfg(all(feature = "_bench", debug_assertions))]
/// Returns how often this thread has read the clock of any sink. Counted in builds with debug assertions alone, so that
/// benches measure what users run.
pub fn clock_readings() -> u64 {
    crate::sink::readings()
}

/// Records a dial whose only attempt succeeds.
pub fn dial(sink: &TraceSink) -> Conn {
    let dial = sink.dial(destination);
    let conn = dial.attempt(REMOTE).connected(|| Some(LOCAL));
    dial.established(conn.conn_ref());
    Conn(conn)
}

/// Records a dial whose only attempt is refused.
pub fn refused_dial(sink: &TraceSink) {
    let dial = sink.dial(destination);
    dial.attempt(REMOTE).failed(&io::Error::from_raw_os_error(ECONNREFUSED));
    dial.failed(|| FailureDetail::new(Failure::ConnectionRefused, "connection refused"));
}

fn destination() -> Text {
    "www.example.com:443".into()
}

impl Conn {
    /// Returns the identity of the connection, or `None` if the sink is off.
    pub fn conn_ref(&self) -> Option<&ConnRef> {
        self.0.conn_ref()
    }

    /// Records a write and a read of `bytes` bytes each.
    pub fn exchange(&mut self, bytes: usize) {
        exchange(&mut self.0, bytes, bytes);
    }
}

pub(crate) fn exchange(conn: &mut ConnRecorder, sent: usize, received: usize) {
    let call = conn.start();
    conn.write(call, Ok(sent));
    let call = conn.start();
    conn.read(call, Ok(received));
}
