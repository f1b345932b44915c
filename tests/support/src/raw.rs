//! Scripted TCP servers, which can violate any protocol and report what they have received.
//!
//! ```ignore
//! let server = Server::start(async |mut conn| {
//!     conn.read_head().await?;
//!     conn.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await?;
//!     if conn.index == 0 { conn.reset() } else { conn.close().await }
//! });
//! …
//! let seen = server.ended(1).await;                 // or ended_blocking(1)
//! assert_eq!(seen[0].peer, client_address);
//! ```

use std::future::pending;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::panic;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::background::{self, Background};
use crate::lab::Ns;

const TIMEOUT: Duration = Duration::from_secs(20);

/// A running server. Dropping it closes its connections.
pub struct Server {
    addr: SocketAddr,
    seen: watch::Receiver<Vec<Seen>>,
    _background: Background,
}

/// A connection as the server saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// All bytes that the script read; after [`Conn::upgrade`] the plaintext.
    pub received: Vec<u8>,
    /// The number of bytes that the script wrote.
    pub sent: usize,
    pub end: End,
}

/// The state of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Open,
    /// The script has ended, which closed the connection unless it was reset.
    Done,
    /// The script ended with an error: `UnexpectedEof` if the peer closed early.
    Failed(io::ErrorKind),
}

impl Server {
    /// Starts a server on a free port of 127.0.0.1 that runs the script for each connection. An error of the script
    /// becomes the [`End`] of the connection; a panic fails the test.
    #[track_caller]
    pub fn start(script: impl AsyncFn(Conn) -> io::Result<()> + Send + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").expect("a free port"), script)
    }

    /// Starts a server on a listening socket, for instance one of a namespace: `ns.listen("10.9.2.2:80")`.
    #[track_caller]
    pub fn on(listener: TcpListener, script: impl AsyncFn(Conn) -> io::Result<()> + Send + 'static) -> Self {
        let addr = listener.local_addr().expect("a bound socket");
        listener.set_nonblocking(true).expect("non-blocking mode");
        let (report, seen) = watch::channel(Vec::new());
        // The sockets keep their namespace. A socket that the script opens is in the namespace of the test.
        let background = Background::start(&Ns::here(), move || serve(listener, script, report));
        Self { addr, seen, _background: background }
    }

    /// Starts a server that answers every request with these bytes and keeps the connection open.
    #[track_caller]
    pub fn answering(response: &'static [u8]) -> Self {
        Self::start(async move |mut conn| {
            loop {
                conn.read_head().await?;
                conn.write(response).await?;
            }
        })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns all connections so far, in the order in which they were accepted.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// Waits until at least `count` connections were accepted, and returns all of them.
    ///
    /// # Panics
    ///
    /// If this takes longer than 20 seconds.
    pub async fn accepted(&self, count: usize) -> Vec<Seen> {
        self.wait(|seen| seen.len() >= count).await
    }

    /// Waits until at least `count` connections have ended, and returns all of them.
    ///
    /// # Panics
    ///
    /// If this takes longer than 20 seconds.
    pub async fn ended(&self, count: usize) -> Vec<Seen> {
        self.wait(|seen| seen.iter().filter(|seen| seen.end != End::Open).count() >= count).await
    }

    /// Blocking variant of [`ended`](Self::ended), for tests without a runtime.
    pub fn ended_blocking(&self, count: usize) -> Vec<Seen> {
        background::runtime().block_on(self.ended(count))
    }

    /// Variant of [`ended`](Self::ended) that returns before a client on the same thread can notice the end. It blocks
    /// the thread: the runtime polls the sockets only afterwards, and runs the task that awaits this first.
    pub async fn ended_unseen(&self, count: usize) {
        std::thread::scope(|scope| scope.spawn(|| self.ended_blocking(count)).join()).expect("no panic");
        tokio::task::yield_now().await;
    }

    async fn wait(&self, done: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let mut seen = self.seen.clone();
        let outcome = background::within(TIMEOUT, seen.wait_for(|seen| done(seen))).await;
        match outcome {
            Some(seen) => seen.expect("the server runs").clone(),
            None => panic!("timed out; the server has seen {:?}", self.seen()),
        }
    }
}

async fn serve<F>(listener: TcpListener, script: F, report: watch::Sender<Vec<Seen>>)
where
    F: AsyncFn(Conn) -> io::Result<()> + 'static,
{
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listening socket");
    let (script, report) = (Rc::new(script), Rc::new(report));
    let mut running = JoinSet::new();
    let mut index = 0;
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => accepted.expect("accept"),
            Some(ended) = running.join_next() => match ended {
                Ok(()) => continue,
                Err(panicked) => panic::resume_unwind(panicked.into_panic()), // the task is never cancelled
            },
        };
        let conn = Conn::new(index, stream, peer, report.clone()).expect("a fresh connection");
        index += 1;
        let (script, end) = (script.clone(), conn.end());
        running.spawn_local(async move {
            // The script has dropped the connection before its end is reported.
            end(match script(conn).await {
                Ok(()) => End::Done,
                Err(error) => End::Failed(error.kind()),
            });
        });
    }
}

/// A byte stream: TCP, or a protocol that a script has put over it.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// The server's end of a connection. Dropping it closes the connection, or resets it if there are received bytes that
/// were not read.
pub struct Conn {
    /// 0 for the first connection of the server.
    pub index: usize,
    stream: Box<dyn Stream>,
    socket: TcpStream, // the same socket, for its options
    report: Rc<watch::Sender<Vec<Seen>>>,
}

impl Conn {
    fn new(
        index: usize,
        stream: TcpStream,
        peer: SocketAddr,
        report: Rc<watch::Sender<Vec<Seen>>>,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?; // each write is sent at once
        let local = stream.local_addr()?;
        let stream = stream.into_std()?;
        let socket = TcpStream::from_std(stream.try_clone()?)?;
        report.send_modify(|seen| {
            seen.push(Seen { peer, local, received: Vec::new(), sent: 0, end: End::Open });
        });
        Ok(Self { index, stream: Box::new(TcpStream::from_std(stream)?), socket, report })
    }

    /// Reads a head up to and including the empty line after it, and returns it.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the peer closes the connection first.
    pub async fn read_head(&mut self) -> io::Result<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await?); // never a byte of the body
            self.seen(|seen| seen.received.extend(head.last()));
        }
        Ok(String::from_utf8_lossy(&head).into_owned())
    }

    /// Reads exactly `length` bytes.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` if the peer closes the connection first.
    pub async fn read(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).await?;
        self.seen(|seen| seen.received.extend(&bytes));
        Ok(bytes)
    }

    /// Reads until the peer has closed its direction.
    ///
    /// # Errors
    ///
    /// `ConnectionReset` if it reset the connection instead.
    pub async fn read_to_end(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match self.stream.read(&mut buffer).await? {
                0 => return Ok(()),
                length => self.seen(|seen| seen.received.extend(&buffer[..length])),
            }
        }
    }

    /// Writes all bytes and flushes the stream.
    ///
    /// # Errors
    ///
    /// The errors of the socket: `BrokenPipe`, `ConnectionReset`.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await?;
        self.seen(|seen| seen.sent += bytes.len());
        Ok(())
    }

    /// Shuts down the server's direction; the script can still read.
    ///
    /// # Errors
    ///
    /// The errors of the socket.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Closes the connection with FIN, and over TLS with `close_notify` first.
    ///
    /// # Errors
    ///
    /// The errors of the socket.
    pub async fn close(mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Resets the TCP connection (RST), also below TLS.
    ///
    /// # Errors
    ///
    /// None are known. A result is returned so that a script can end with this call.
    pub fn reset(self) -> io::Result<()> {
        self.socket.set_zero_linger()
    }

    /// Keeps the connection open and idle until the server is dropped.
    ///
    /// # Errors
    ///
    /// Never fails. A result is returned so that a script can end with this call.
    pub async fn hang(self) -> io::Result<()> {
        pending().await
    }

    /// Puts a protocol over the connection, through which it reads and writes from then on:
    /// `conn.upgrade(|stream| acceptor.accept(stream)).await?` for TLS.
    ///
    /// # Errors
    ///
    /// The errors of the handshake.
    pub async fn upgrade<S, F>(self, handshake: impl FnOnce(Box<dyn Stream>) -> F) -> io::Result<Self>
    where
        S: Stream + 'static,
        F: Future<Output = io::Result<S>>,
    {
        let Self { index, stream, socket, report } = self;
        let stream = Box::new(handshake(stream).await?);
        Ok(Self { index, stream, socket, report })
    }

    fn seen(&self, change: impl FnOnce(&mut Seen)) {
        self.report.send_modify(|seen| change(&mut seen[self.index]));
    }

    fn end(&self) -> impl FnOnce(End) + use<> {
        let (index, report) = (self.index, self.report.clone());
        move |end| report.send_modify(|seen| seen[index].end = end)
    }
}

/// An address that refuses connections until this is dropped: its socket is bound, but does not listen.
pub struct Refused {
    pub addr: SocketAddr,
    _socket: TcpSocket,
}

impl Refused {
    /// Binds a free port of a loopback address: `"127.0.0.1:0"`.
    #[track_caller]
    pub fn on(address: &str) -> Self {
        let address: SocketAddr = address.parse().expect("an address with a port");
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.expect("a socket");
        socket.bind(address).expect("a free port");
        Self { addr: socket.local_addr().expect("bound"), _socket: socket }
    }
}
