//! A local address that forwards to a target over traced connections, for programs that dial by themselves.
//!
//! Some libraries take nothing but an address: they look up names and connect on their own. Give such a library the
//! address of a [`Relay`]. Each connection to it becomes a traced connection to the target, with its dial, DNS messages
//! and attempts, and everything that passes is forwarded untouched, TLS included.
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
//! // What a library would do that is given `relay.addr()` as its server.
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
//! - What is inside TLS. The library verifies the certificate of the server as always, so it must be told the server's
//!   name: the address alone would not match the certificate.
//! - The time in which the library waits for its own connection to the relay. Over the loopback interface that takes some
//!   microseconds.
//!
//! The relay listens on the loopback interface. Every local user can connect to it, and reaches the target then.

use crate::{
    connect::{Target, TcpConnector, TracedIo},
    resolve::StubResolver,
    sink::TraceSink,
};
use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// A local address that forwards to a target. Dropping it closes the address and all connections over it.
pub struct Relay {
    addr: SocketAddr,
    target: Target,
    task: JoinHandle<()>,
}

impl Relay {
    /// Starts a relay to `target`, usually `"host:port"`, on a free port of 127.0.0.1. Its connections are recorded into
    /// `sink`.
    ///
    /// The target is connected to when a client connects to the relay. If that fails, the client's connection is reset,
    /// and the dial in the trace says why.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the target is invalid, otherwise the errors of the listening
    /// socket.
    ///
    /// # Panics
    ///
    /// If it is called outside a tokio runtime.
    pub async fn start(sink: &TraceSink, target: impl Into<Target>) -> io::Result<Self> {
        Self::start_with(TcpConnector::new(sink), target).await
    }

    /// Starts a relay that connects with `connector`, which may have timeouts, a source address or nameservers of its
    /// own.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub async fn start_with(
        connector: TcpConnector<StubResolver>,
        target: impl Into<Target>,
    ) -> io::Result<Self> {
        let target = target.into();
        if let Err(why) = target.port {
            let text = format!("cannot relay to {}: {why}", target.to_text());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let route = Arc::new(Route { connector, target: target.clone() });
        Ok(Relay { addr, target, task: tokio::spawn(accept(listener, route)) })
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

/// Where connections are forwarded to, and how.
struct Route {
    connector: TcpConnector<StubResolver>,
    target: Target,
}

/// How long to wait after an error of the listening socket, for example until file descriptors are free again.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

async fn accept(listener: TcpListener, route: Arc<Route>) {
    let mut forwarding = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                forwarding.spawn(forward(client, route.clone()));
                while forwarding.try_join_next().is_some() {} // frees those that have ended
            }
            Err(error) => {
                tracing::warn!(target: "nettrace", "a relay cannot accept connections for now: {error}");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
}

/// Forwards a connection, in both directions until each of them ends.
async fn forward(mut client: TcpStream, route: Arc<Route>) {
    let _ = client.set_nodelay(true);
    let Ok(mut server) = route.connector.connect(route.target.clone()).await else {
        reset_on_close(&client); // the trace has the reason
        return;
    };
    if copy_bidirectional(&mut client, &mut server).await.is_err() {
        // What one side sees of the error, the other one should see, too.
        reset_on_close(&client);
        reset_on_close(TracedIo::get_ref(&server));
    }
}

/// Has the connection reset when it is closed, instead of being ended as if all had been sent.
fn reset_on_close(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
