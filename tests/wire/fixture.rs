//! A connection whose bytes are read, and clients over such connections.

use http::Uri;
use http_body_util::Empty;
use hyper_util::{
    client::legacy::{self, connect::Connect, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use nettrace::{
    TraceSink,
    connect::{TraceConnect, TraceConnectLayer, TracedIo},
    record::{HttpReqTrace, NetTrace, TcpConnTrace},
    wire::{TraceWire, TraceWireLayer, WireIo},
};
use std::net::SocketAddr;
use test_support::{check, wait};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tower::{Layer as _, ServiceExt as _};

pub type Body = Empty<bytes::Bytes>;
pub type Pool<C> = legacy::Client<C, Body>;

/// Returns a traced connector whose connections are read.
pub fn connector(sink: &TraceSink) -> TraceWire<TraceConnect<HttpConnector>> {
    TraceWireLayer::new(sink).layer(TraceConnectLayer::new(sink).layer(HttpConnector::new()))
}

/// Returns hyper-util's client over a connector.
pub fn pool<C: Connect + Clone>(connector: C, h2: bool) -> Pool<C> {
    legacy::Client::builder(TokioExecutor::new()).http2_only(h2).build(connector)
}

/// A connection that a test writes to and reads from.
pub struct Conn(TokioIo<WireIo<TracedIo<TokioIo<TcpStream>>>>);

impl Conn {
    pub async fn connect(sink: &TraceSink, addr: SocketAddr) -> Self {
        let uri: Uri = format!("http://{addr}/").parse().unwrap();
        Conn(TokioIo::new(connector(sink).oneshot(uri).await.expect("a connection")))
    }

    /// Writes in pieces of this size.
    pub async fn write_in_pieces(&mut self, bytes: &[u8], size: usize) {
        for piece in bytes.chunks(size) {
            self.0.write_all(piece).await.unwrap();
        }
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads that many bytes, in pieces of the other size.
    pub async fn read_in_pieces(&mut self, length: usize, size: usize) -> Vec<u8> {
        let (mut all, mut piece) = (Vec::new(), vec![0; size]);
        while all.len() < length {
            let most = size.min(length - all.len());
            let read = self.0.read(&mut piece[..most]).await.unwrap();
            assert!(read > 0, "{} of {length} bytes came", all.len());
            all.extend_from_slice(&piece[..read]);
        }
        all
    }

    /// Reads to the end.
    pub async fn read_to_end(&mut self) -> std::io::Result<Vec<u8>> {
        let mut all = Vec::new();
        self.0.read_to_end(&mut all).await.map(|_| all)
    }
}

/// Returns the trace once all of its connections are closed.
pub async fn finished(sink: &TraceSink) -> NetTrace {
    let is_open = |conn: &TcpConnTrace| conn.end_reason.is_none();
    wait::until("all connections are closed", || !sink.snapshot("").tcp_conns.iter().any(is_open)).await;
    let trace = sink.snapshot("");
    check::finished(&trace);
    trace
}

/// Returns the only request of a trace, after asserting that it was read from the wire.
pub fn only_request(trace: &NetTrace) -> &HttpReqTrace {
    let [request] = &trace.http_requests[..] else {
        panic!("expected one request: {:?}", trace.http_requests)
    };
    assert!(request.seen_on_wire);
    request
}

/// Returns the connection of a request.
pub fn conn_of<'a>(trace: &'a NetTrace, request: &HttpReqTrace) -> &'a TcpConnTrace {
    trace.tcp_conns.get(&request.tcp_conn).expect("the connection")
}
