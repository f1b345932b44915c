//! Streams of smol, async-std and others, for clients that take a stream with the traits of futures-io.
//!
//! The trace has the dial, and the connection with its operations.

use async_net::TcpStream;
use nettrace::{
    TraceSink,
    connect::{StreamAddrs, TracedIo},
};
use std::io;

/// Connects to `address`, such as `"broker.internal:5672"`, and records the dial and the connection into `sink`.
///
/// # Errors
///
/// Returns the errors of [`TcpStream::connect`].
pub async fn connect(sink: &TraceSink, address: &str) -> io::Result<TracedIo<TcpStream>> {
    let addrs =
        |stream: &TcpStream| StreamAddrs { local: stream.local_addr().ok(), peer: stream.peer_addr().ok() };
    TracedIo::dial(sink, address, TcpStream::connect(address), addrs).await
}
