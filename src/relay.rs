//! A local address that forwards to a target over traced connections, for programs that dial by themselves.
//!
//! Some libraries take nothing but an address: they look up names and connect on their own. Give such a library the
//! address of a [`Relay`]. Each connection to it becomes a traced connection to the target, with its dial, DNS messages
//! and attempts, and everything that passes is forwarded untouched, TLS included. The unencrypted part of a TLS
//! handshake is recorded (feature `tls`): the server's name, the version, the cipher suite, the group, and alerts.
//!
//! ```
//! use nettrace::{TraceSink, relay::Relay};
//! use tokio::{io::{AsyncReadExt, AsyncWriteExt}, net::TcpStream};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! # let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let target = server.local_addr()?.to_string();
//! # tokio::spawn(async move {
//! #     let (mut conn, _) = server.accept().await.unwrap();
//! #     conn.read_exact(&mut [0; 4]).await.unwrap();
//! #     conn.write_all(b"pong").await.unwrap();
//! # });
//! let sink = TraceSink::new();
//! let relay = Relay::start(&sink, target).await?; // such as "db.internal:6379"
//!
//! // A library that is given `relay.addr()` as its server does this.
//! let mut conn = TcpStream::connect(relay.addr()).await?;
//! conn.write_all(b"ping").await?;
//! conn.read_exact(&mut [0; 4]).await?;
//!
//! assert_eq!(sink.snapshot("").tcp_conns[0].total_sent_bytes, 4);
//! # Ok(()) }
//! ```
//!
//! # What it cannot see
//!
//! - Names that the library looks up itself, and connections to other servers that the first one names, as clusters of
//!   databases do. They go past the relay.
//! - What is inside TLS: requests, and in TLS 1.3 also the certificates, the protocol that ALPN chose, and most alerts.
//!   The library verifies the certificate of the server as always, so it must be told the server's name: the address
//!   alone would not match the certificate.
//! - What the library does about a server that is down. It is connected to the relay at once, and reset when the relay
//!   cannot connect: its own time limit for connecting, and its choice of another address, do not apply. Give the relay a
//!   connector with a [`connect_timeout`](TcpConnector::connect_timeout) instead. A library that gives up in the meantime
//!   is only noticed if it resets its connection (not on Windows).
//!
//! The relay listens on the loopback interface. Every local user can connect to it, and reaches the target then.

#[cfg(feature = "tls")]
use crate::tls::PassingTls;
#[cfg(feature = "wire")]
use crate::wire::WireIo;
use crate::{
    connect::{Target, TcpConnector, TracedIo},
    sink::TraceSink,
};
use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest, split},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// A local address that forwards to a target. Soon after it is dropped, the address is closed, and the connections over
/// it are reset.
pub struct Relay {
    addr: SocketAddr,
    target: Target,
    task: JoinHandle<()>,
}

impl Relay {
    /// Starts a relay to `target`, usually `"host:port"`, on a free port of 127.0.0.1. Its connections are recorded
    /// into `sink`.
    ///
    /// The target is connected to when a client connects to the relay. If that fails, the client's connection is reset,
    /// and the dial in the trace says why.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`RelayBuilder::start`].
    ///
    /// # Panics
    ///
    /// Panics if called outside a tokio runtime.
    pub async fn start(sink: &TraceSink, target: impl Into<Target>) -> io::Result<Self> {
        Self::builder(sink, target).start().await
    }

    /// Returns a builder that configures how a relay connects to `target`, and what it reads.
    pub fn builder(sink: &TraceSink, target: impl Into<Target>) -> RelayBuilder {
        let route = Route {
            connector: TcpConnector::new(sink),
            target: target.into(),
            #[cfg(any(feature = "tls", feature = "wire"))]
            sink: sink.clone(),
            #[cfg(feature = "wire")]
            reads_http: false,
        };
        RelayBuilder { route }
    }

    /// Returns the address to connect to in place of the target.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort(); // and with it the connections, which belong to the task
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("addr", &self.addr).field("target", &self.target).finish()
    }
}

/// Configures a [`Relay`]. Created by [`Relay::builder`].
#[derive(Debug)]
pub struct RelayBuilder {
    route: Route,
}

impl RelayBuilder {
    /// Sets the connector, which may have timeouts, a source address or nameservers of its own.
    pub fn connector(mut self, connector: TcpConnector) -> Self {
        self.route.connector = connector;
        self
    }

    /// Sets whether the HTTP that passes is read and its requests are recorded, see [`wire`](crate::wire). By default
    /// it is not.
    #[cfg(feature = "wire")]
    pub fn http_from_wire(mut self, reads: bool) -> Self {
        self.route.reads_http = reads;
        self
    }

    /// Starts the relay.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the target is invalid, otherwise the errors of the listening
    /// socket.
    ///
    /// # Panics
    ///
    /// Panics if called outside a tokio runtime.
    pub async fn start(self) -> io::Result<Relay> {
        let target = self.route.target.clone();
        if let Err(why) = target.port {
            let text = format!("cannot relay to {}: {why}", target.to_text());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        Ok(Relay { addr, target, task: tokio::spawn(accept(listener, Arc::new(self.route))) })
    }
}

/// The target, and how it is reached.
#[derive(Debug)]
struct Route {
    connector: TcpConnector,
    target: Target,
    #[cfg(any(feature = "tls", feature = "wire"))]
    sink: TraceSink,
    /// Whether the requests of each connection are recorded.
    #[cfg(feature = "wire")]
    reads_http: bool,
}

#[cfg(feature = "wire")]
type HttpStream = WireIo<TracedIo<TcpStream>>;
#[cfg(not(feature = "wire"))]
type HttpStream = TracedIo<TcpStream>;

/// A connection to the target, which reads what passes as far as the features allow.
#[cfg(feature = "tls")]
type Server = PassingTls<HttpStream>;
#[cfg(not(feature = "tls"))]
type Server = HttpStream;

impl Route {
    fn read(&self, connected: TracedIo<TcpStream>) -> Server {
        #[cfg(feature = "tls")]
        let conn = connected.conn_ref().cloned();
        #[cfg(feature = "wire")]
        let connected = WireIo::dialed(self.reads_http.then_some(&self.sink), connected);
        #[cfg(feature = "tls")]
        let connected = PassingTls::new(&self.sink, conn, connected);
        connected
    }
}

/// How long to wait after an error of the listening socket, for example until file descriptors are free again.
const ACCEPT_BACKOFF: Duration = Duration::from_secs(1);

async fn accept(listener: TcpListener, route: Arc<Route>) {
    let mut forwarding = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => drop(forwarding.spawn(forward(client, route.clone()))),
                // That client has gone away. The next one can be accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    let target = route.target.to_text();
                    tracing::warn!(target: "nettrace", "the relay to {target} cannot accept connections for now: {error}");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            },
            Some(ended) = forwarding.join_next() => if let Err(error) = ended {
                let target = route.target.to_text();
                tracing::error!(target: "nettrace", "a connection of the relay to {target} was cut off: {error}");
            }
        }
    }
}

/// Forwards a connection, in both directions until each of them ends.
async fn forward(mut client: TcpStream, route: Arc<Route>) {
    let _ = client.set_nodelay(true);
    // Until all has passed: what is cut off, by an error or with the relay, must not look complete.
    set_reset_on_close(&client, true);
    let Some(mut server) = connect(&client, &route).await else { return };
    set_reset_on_close(socket(&server), true);
    if copy_both_ways(&mut client, &mut server).await.is_ok() {
        set_reset_on_close(&client, false);
        set_reset_on_close(socket(&server), false);
    }
}

/// Connects to the target. Returns `None` if that fails, and the trace has the reason, or if the client resets its
/// connection meanwhile.
async fn connect(client: &TcpStream, route: &Route) -> Option<Server> {
    let connected = tokio::select! {
        connected = route.connector.connect(route.target.clone()) => connected.ok()?,
        _ = client.ready(Interest::ERROR) => return None,
    };
    Some(route.read(connected))
}

/// Why a direction has not come to its end.
enum Broken {
    /// A read failed. What was on its way is lost.
    Read,
    /// A write failed. What the other side has sent may still arrive.
    Write,
}

/// Copies in both directions until each of them ends. If nothing more can be written to one side, as to a server that
/// has answered and closed the connection, what it has sent is still copied.
async fn copy_both_ways(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    server: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> Result<(), Broken> {
    let (mut client_reads, mut client_writes) = split(client);
    let (mut server_reads, mut server_writes) = split(server);
    let mut up = pin!(copy_one_way(&mut client_reads, &mut server_writes));
    let mut down = pin!(copy_one_way(&mut server_reads, &mut client_writes));
    tokio::select! {
        first = &mut up => if is_read(&first) { first } else { first.and(down.await) },
        first = &mut down => if is_read(&first) { first } else { first.and(up.await) },
    }
}

fn is_read(ended: &Result<(), Broken>) -> bool {
    matches!(ended, Err(Broken::Read))
}

async fn copy_one_way(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> Result<(), Broken> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await.map_err(|_| Broken::Read)?;
        if read == 0 {
            return to.shutdown().await.map_err(|_| Broken::Write);
        }
        to.write_all(&buffer[..read]).await.map_err(|_| Broken::Write)?;
    }
}

/// The size of the buffer of each direction.
const BUFFER_BYTES: usize = 16 << 10;

fn socket(server: &Server) -> &TcpStream {
    #[cfg(feature = "tls")]
    let server = server.get_ref();
    #[cfg(feature = "wire")]
    let server = server.get_ref();
    server.get_ref()
}

/// Sets whether the close of the socket sends a reset instead of an orderly end.
fn set_reset_on_close(stream: &TcpStream, resets: bool) {
    let _ = socket2::SockRef::from(stream).set_linger(resets.then_some(Duration::ZERO));
}
