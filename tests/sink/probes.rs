//! `Probe`: the events of connections, and access to their sockets.

use std::{
    future::Future,
    io::Write,
    net::{SocketAddr, TcpListener as StdListener},
    os::fd::{AsFd, AsRawFd},
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use hyper_util::client::legacy::connect::HttpConnector;
use nettrace::{
    ConnRef, Probe, ProbeEvent, ProbeSocket, TraceSink,
    connect::{KeepAlive, TcpConnector, TraceConnectLayer},
    resolve::StubResolver,
};
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tower::{Layer, ServiceExt};

use test_support::{
    check,
    dns::{ClosedPort, DnsServer},
};

/// The calls of a probe, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

struct Recording(Log);

impl Log {
    fn write(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Probe for Recording {
    fn before_connect(&self, socket: ProbeSocket<'_>, remote: SocketAddr) {
        assert!(SockRef::from(&socket).peer_addr().is_err(), "not connected yet");
        self.0.write(format!("before {remote}"));
    }

    fn connecting(&self, socket: ProbeSocket<'_>, remote: SocketAddr) {
        let local = SockRef::from(&socket).local_addr().unwrap().as_socket().unwrap();
        assert_ne!(local.port(), 0, "the socket has a port");
        self.0.write(format!("connecting {remote}"));
    }

    fn event(&self, conn: &ConnRef, event: ProbeEvent, socket: ProbeSocket<'_>) {
        let remote = conn.peer_addr().unwrap();
        if event != ProbeEvent::ConnectFailed {
            let local = SockRef::from(&socket).local_addr().unwrap().as_socket();
            assert_eq!(local, conn.local_addr(), "the socket is open and belongs to the connection");
        }
        assert_eq!(socket.as_raw_fd(), socket.as_fd().as_raw_fd());
        assert!(!conn.id().is_undefined());
        self.0.write(format!("{event:?} {remote}"));
    }

    fn before_foreign_connect(&self) {
        self.0.write("before");
    }

    fn foreign_connected(&self, conn: &ConnRef) {
        assert!(!conn.id().is_undefined());
        self.0.write(format!("connected {:?}", conn.peer_addr()));
    }

    fn foreign_closing(&self, conn: &ConnRef) {
        self.0.write(format!("closing {:?}", conn.peer_addr()));
    }

    fn refresh(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            self.0.write("refresh begins");
            tokio::task::yield_now().await;
            self.0.write("refresh ends");
        })
    }

    fn clear(&self) {
        self.0.write("clear");
    }

    fn close(&self) {
        self.0.write("close");
    }
}

/// A probe whose methods panic.
struct Panicking;

impl Probe for Panicking {
    fn before_connect(&self, _: ProbeSocket<'_>, _: SocketAddr) {
        panic!("deliberate panic");
    }

    fn connecting(&self, _: ProbeSocket<'_>, _: SocketAddr) {
        panic!("deliberate panic");
    }

    fn event(&self, _: &ConnRef, _: ProbeEvent, _: ProbeSocket<'_>) {
        panic!("deliberate panic");
    }

    fn refresh(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            tokio::task::yield_now().await;
            panic!("deliberate panic");
        })
    }

    fn close(&self) {
        panic!("deliberate panic");
    }
}

/// A probe that panics in `refresh` before it returns a future.
struct PanickingAtOnce;

impl Probe for PanickingAtOnce {
    fn refresh(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        panic!("deliberate panic");
    }
}

/// Creates a sink with two probes that panic, followed by one that records.
fn probed() -> (Log, TraceSink) {
    let log = Log::default();
    let sink =
        TraceSink::builder().probe(Panicking).probe(PanickingAtOnce).probe(Recording(log.clone())).build();
    (log, sink)
}

#[tokio::test]
async fn probes_see_a_connection_from_its_socket_to_its_close() {
    let (log, sink) = probed();
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut stream = TcpConnector::new(&sink).connect(addr).await.unwrap();
    assert_eq!(
        log.take(),
        [format!("before {addr}"), format!("connecting {addr}"), format!("Connected {addr}")]
    );
    let (mut peer, _) = listener.accept().unwrap();
    let mut buffer = [0; 2];
    for expected in [vec![format!("FirstByte {addr}")], vec![]] {
        peer.write_all(b"ab").unwrap();
        stream.read_exact(&mut buffer).await.unwrap();
        assert_eq!(log.take(), expected);
    }
    drop(stream);
    assert_eq!(log.take(), [format!("Closing {addr}")]);
    check::finished(&sink.snapshot("all"));
}

#[tokio::test]
async fn into_inner_is_reported_to_probes_as_closing() {
    let (log, sink) = probed();
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let stream = TcpConnector::new(&sink).connect(addr).await.unwrap();
    log.take();
    let stream = stream.into_inner();
    assert_eq!(log.take(), [format!("Closing {addr}")]);
    drop(stream);
    assert!(log.take().is_empty());
}

#[tokio::test]
async fn connections_of_foreign_connectors_are_reported_without_a_socket() {
    let (log, sink) = probed();
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let connector = TraceConnectLayer::new(&sink).layer(HttpConnector::new());
    let stream = connector.oneshot(format!("http://{addr}/").parse().unwrap()).await.unwrap();
    assert_eq!(log.take(), ["before".into(), format!("connected {:?}", Some(addr))]);
    drop(stream);
    assert_eq!(log.take(), [format!("closing {:?}", Some(addr))]);
}

#[tokio::test]
async fn failed_attempts_are_reported_to_probes() {
    let (log, sink) = probed();
    let refusing = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    refusing.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let addr = refusing.local_addr().unwrap().as_socket().unwrap();
    TcpConnector::new(&sink).connect(addr).await.unwrap_err();
    let expected = [format!("before {addr}"), format!("connecting {addr}"), format!("ConnectFailed {addr}")];
    assert_eq!(log.take(), expected);

    // The kernel refuses at once, since this address cannot be reached from a loopback address.
    let from_loopback = TcpConnector::new(&sink).source_ip(std::net::IpAddr::from([127, 0, 0, 1]));
    let far: SocketAddr = "192.0.2.1:9".parse().unwrap();
    let dropped = tokio::time::timeout(Duration::ZERO, from_loopback.connect(far)).await;
    assert!(dropped.is_err() || dropped.unwrap().is_err());
    assert_eq!(log.take(), [format!("before {far}"), format!("ConnectFailed {far}")]);
    check::finished(&sink.snapshot("all"));
}

#[tokio::test]
async fn connections_to_nameservers_are_reported_to_probes() {
    let (log, sink) = probed();
    let server = DnsServer::answering(&["127.0.0.1"]).await;
    let addr = server.addr();
    let resolver = |sink: &TraceSink| {
        StubResolver::builder(sink).nameservers([addr]).hosts_file(None).single_request(true)
    };
    resolver(&sink).build().unwrap().lookup("some.test").await.unwrap();
    let per_conn = [format!("Connected {addr}"), format!("FirstByte {addr}"), format!("Closing {addr}")];
    assert_eq!(log.take(), [&per_conn[..], &per_conn[..]].concat());
    resolver(&sink).use_vc(true).build().unwrap().lookup("some.test").await.unwrap();
    let per_conn = [&[format!("before {addr}"), format!("connecting {addr}")], &per_conn[..]].concat();
    assert_eq!(log.take(), [&per_conn[..], &per_conn[..]].concat());

    let closed_port = ClosedPort::bind();
    let closed = closed_port.addr;
    let resolver = StubResolver::builder(&sink).nameservers([closed]).hosts_file(None);
    let resolver = resolver.single_request(true).use_vc(true).attempts(1).build().unwrap();
    resolver.lookup("some.test").await.unwrap_err();
    let per_conn =
        [format!("before {closed}"), format!("connecting {closed}"), format!("ConnectFailed {closed}")];
    let reported = log.take();
    assert_eq!(reported[..3], per_conn);
    assert!(reported.chunks(3).all(|events| events == per_conn), "{reported:?}");
    check::finished(&sink.snapshot("all"));
}

#[tokio::test]
async fn refresh_awaits_probes_and_close_is_their_last_call() {
    let (log, sink) = probed();
    sink.refresh().await;
    assert_eq!(log.take(), ["refresh begins", "refresh ends"]);

    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let connector = TcpConnector::new(&sink).keep_alive(KeepAlive::Off);
    let stream = connector.connect(listener.local_addr().unwrap()).await.unwrap();
    log.take();
    sink.clear();
    sink.close();
    sink.close();
    assert_eq!(log.take(), ["clear", "close"]);
    drop(stream);
    connector.connect(listener.local_addr().unwrap()).await.unwrap();
    sink.refresh().await;
    assert!(log.take().is_empty(), "probes are not called after `close`");
}
