//! The kernel's time stamps of sampled connections, on loopback and over a path with a delay.

mod breakdown;
mod stamps;
mod transparency;

use nettrace::{
    NetTrace, TraceSink,
    connect::{TcpConnector, TracedIo},
    linux::TimestampingProbe,
    record::KernelTimes,
};
use std::net::SocketAddr;
use test_support::{check, wait::Deadline};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn sink() -> TraceSink {
    TraceSink::builder().probe(TimestampingProbe::new().every(1)).build()
}

async fn connect(sink: &TraceSink, addr: SocketAddr) -> TracedIo<TcpStream> {
    TcpConnector::new(sink).connect(addr).await.unwrap()
}

/// Takes a snapshot, and asserts what holds for every trace: times are in order, and bytes are counted.
#[track_caller]
fn snapshot(sink: &TraceSink) -> NetTrace {
    let trace = sink.snapshot("");
    check::running(&trace);
    trace
}

/// Returns the stamps of the only connection.
#[track_caller]
fn only_times(sink: &TraceSink) -> KernelTimes {
    let trace = snapshot(sink);
    let [conn] = &trace.tcp_conns[..] else { panic!("one connection: {trace:#?}") };
    conn.kernel_times.as_deref().cloned().unwrap_or_default()
}

/// Exchanges single bytes with an echo until the kernel stamps what it receives: it begins some time after the first
/// socket has asked for it. Returns how many were exchanged.
async fn warm_up(stream: &mut TracedIo<TcpStream>, sink: &TraceSink) -> u64 {
    let deadline = Deadline::new("a stamp of received bytes");
    for count in 1.. {
        stream.write_all(b"w").await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
        let id = stream.conn_id();
        let trace = sink.snapshot("");
        let times = trace.tcp_conns.get(&id).and_then(|conn| conn.kernel_times.as_deref());
        if times.is_some_and(|times| !times.reads.is_empty()) {
            return count;
        }
        deadline.check();
    }
    unreachable!("the deadline has passed")
}
