//! A TCP connector that records every attempt.
//!
//! hyper-util's `HttpConnector` shows only the connection that it returns. This one opens its own sockets, so that
//! failed and abandoned attempts are recorded too, and the probes see each socket before it connects.

use super::{
    Target, TracedIo,
    happy_eyeballs::{self, ConnectTimes},
};
use crate::{
    error::{BoxError, ConnectError, ConnectErrorKind, NoRuntime, classify},
    net::SocketOptions,
    resolve::StubResolver,
    sink::{DialRecorder, TraceSink},
};
use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::{client::legacy::connect::dns::Name, rt::TokioIo};
use socket2::TcpKeepalive;
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::net::TcpStream;
use tower_service::Service;

/// A TCP connector that records the dial, the name lookup, every attempt with its own error, and the reads and writes
/// of the connection.
///
/// It is a hyper connector (`Service<Uri>`); for other protocols call [`connect`](Self::connect). Addresses are tried
/// as in RFC 8305 (Happy Eyeballs).
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use nettrace::{TraceSink, connect::TcpConnector};
///
/// let sink = TraceSink::new();
/// let stream = TcpConnector::new(&sink).connect("db.internal:5432").await?;
/// println!("connected as {}", stream.conn_id());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct TcpConnector<R = StubResolver> {
    sink: TraceSink,
    resolver: R,
    options: Arc<ConnectOptions>,
}

/// TCP keep-alive probes (RFC 9293 section 3.8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// No probes are sent.
    Off,
    /// A probe is sent when the connection has been idle for this time, and again after each such time. Whole seconds
    /// from 1 to 32,767, the maximum of Linux; others are rounded down or clamped.
    Every(Duration),
}

/// The maximum of Linux: `MAX_TCP_KEEPIDLE` and `MAX_TCP_KEEPINTVL` in `include/net/tcp.h`.
const MAX_KEEP_ALIVE: Duration = Duration::from_secs(32_767);

impl KeepAlive {
    fn probes(self) -> Option<TcpKeepalive> {
        let KeepAlive::Every(interval) = self else { return None };
        let interval = interval.clamp(Duration::from_secs(1), MAX_KEEP_ALIVE);
        Some(TcpKeepalive::new().with_time(interval).with_interval(interval))
    }
}

impl Default for KeepAlive {
    /// Returns `Every` with 15 seconds.
    fn default() -> Self {
        KeepAlive::Every(Duration::from_secs(15))
    }
}

/// The configuration that all clones of a connector share.
#[derive(Clone, Debug)]
struct ConnectOptions {
    socket: SocketOptions,
    times: ConnectTimes,
}

impl TcpConnector {
    /// Creates a connector that looks names up with a [`StubResolver`] and the system's settings.
    pub fn new(sink: &TraceSink) -> Self {
        TcpConnector {
            sink: sink.clone(),
            resolver: StubResolver::system_or_default(sink),
            options: Arc::new(ConnectOptions {
                socket: SocketOptions {
                    source_ip: None,
                    keep_alive: KeepAlive::default().probes(),
                    nodelay: true,
                },
                times: ConnectTimes {
                    handshake_timeout: None,
                    connect_timeout: None,
                    attempt_delay: Duration::from_millis(250),
                },
            }),
        }
    }
}

impl<R> TcpConnector<R> {
    /// Looks names up with this resolver: any `Service<Name>` that hyper-util's `HttpConnector` accepts.
    pub fn resolver<S>(self, resolver: S) -> TcpConnector<S> {
        TcpConnector { sink: self.sink, resolver, options: self.options }
    }

    /// Sets the local address to connect from. By default the kernel chooses. Addresses of the other family are not
    /// tried.
    pub fn source_ip(mut self, ip: impl Into<Option<IpAddr>>) -> Self {
        Arc::make_mut(&mut self.options).socket.source_ip = ip.into();
        self
    }

    /// Limits how long one TCP handshake may take. By default until the kernel gives it up.
    pub fn handshake_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        Arc::make_mut(&mut self.options).times.handshake_timeout = timeout.into();
        self
    }

    /// Limits how long the TCP handshakes with all addresses of a name may take together. Unlimited by default.
    ///
    /// The name lookup is not included. The next address is tried early enough for all to be tried in time, as
    /// hyper-util's `HttpConnector::set_connect_timeout` divides the time among the addresses. Handshakes that are in
    /// progress when the time is up end with [`ErrorKind::TimedOut`](std::io::ErrorKind::TimedOut), and are recorded as
    /// timed out.
    pub fn connect_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        Arc::make_mut(&mut self.options).times.connect_timeout = timeout.into();
        self
    }

    /// Sets the TCP keep-alive probes; every 15 seconds by default.
    pub fn keep_alive(mut self, keep_alive: KeepAlive) -> Self {
        Arc::make_mut(&mut self.options).socket.keep_alive = keep_alive.probes();
        self
    }

    /// Sets the TCP keep-alive probes in full detail.
    #[cfg(feature = "tonic")]
    pub(crate) fn keep_alive_probes(mut self, probes: Option<TcpKeepalive>) -> Self {
        Arc::make_mut(&mut self.options).socket.keep_alive = probes;
        self
    }

    /// Sets `TCP_NODELAY`; on by default.
    pub fn nodelay(mut self, nodelay: bool) -> Self {
        Arc::make_mut(&mut self.options).socket.nodelay = nodelay;
        self
    }

    /// Sets how long to wait for an attempt before the next address is tried (the Connection Attempt Delay of RFC
    /// 8305); 250 ms by default.
    pub fn attempt_delay(mut self, delay: Duration) -> Self {
        Arc::make_mut(&mut self.options).times.attempt_delay = delay;
        self
    }
}

impl<R> TcpConnector<R>
where
    R: Service<Name> + Clone,
    R::Response: Iterator<Item = SocketAddr>,
    R::Error: Into<BoxError>,
{
    /// Connects to any destination, for any protocol.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] when the destination is invalid, the name has no address, or no address can be connected to.
    pub async fn connect(&self, target: impl Into<Target>) -> Result<TracedIo<TcpStream>, ConnectError> {
        let target = target.into();
        let dial = self.sink.dial(|| target.to_text());
        connect(self.resolver.clone(), self.options.clone(), target, dial).await
    }
}

impl<R> Service<Uri> for TcpConnector<R>
where
    R: Service<Name> + Clone + Send + 'static,
    R::Response: Iterator<Item = SocketAddr> + Send,
    R::Error: Into<BoxError>,
    R::Future: Send,
{
    type Response = TokioIo<TracedIo<TcpStream>>;
    type Error = ConnectError;
    type Future = TcpConnectFuture;

    /// Always ready: the resolver's readiness is awaited when a name is looked up.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> TcpConnectFuture {
        let connector = self.clone();
        let target = Target::of_uri(&uri);
        let dial = connector.sink.dial(|| target.to_text());
        TcpConnectFuture(Box::pin(async move {
            connect(connector.resolver, connector.options, target, dial).await.map(TokioIo::new)
        }))
    }
}

/// The future of [`TcpConnector`] as a `Service`.
pub struct TcpConnectFuture(BoxFuture<'static, Result<TokioIo<TracedIo<TcpStream>>, ConnectError>>);

impl Future for TcpConnectFuture {
    type Output = Result<TokioIo<TracedIo<TcpStream>>, ConnectError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for TcpConnectFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TcpConnectFuture")
    }
}

async fn connect<R>(
    resolver: R,
    options: Arc<ConnectOptions>,
    target: Target,
    dial: DialRecorder,
) -> Result<TracedIo<TcpStream>, ConnectError>
where
    R: Service<Name>,
    R::Response: Iterator<Item = SocketAddr>,
    R::Error: Into<BoxError>,
{
    if let Some(ip) = options.socket.source_ip {
        dial.source_ip(ip);
    }
    let found = match NoRuntime::check() {
        Ok(()) => addresses(resolver, &options.socket, &target, &dial).await,
        Err(error) => Err(ConnectErrorKind::NoRuntime(error)),
    };
    let tried = match found {
        Ok(addrs) => happy_eyeballs::connect(addrs, &options.socket, &options.times, &dial)
            .await
            .map_err(|attempts| (ConnectErrorKind::Attempts, attempts)),
        Err(kind) => Err((kind, Vec::new())),
    };
    match tried {
        Ok((stream, conn)) => {
            dial.established(conn.conn_ref());
            Ok(TracedIo::tcp(stream, conn))
        }
        Err((kind, attempts)) => {
            let error =
                ConnectError { kind, destination: target.to_text().into(), attempts, dial: dial.dial().id() };
            dial.failed(|| classify::failure_detail(&error));
            Err(error)
        }
    }
}

/// Returns the addresses to try, in the resolver's order.
async fn addresses<R>(
    mut resolver: R,
    socket: &SocketOptions,
    target: &Target,
    dial: &DialRecorder,
) -> Result<Vec<SocketAddr>, ConnectErrorKind>
where
    R: Service<Name>,
    R::Response: Iterator<Item = SocketAddr>,
    R::Error: Into<BoxError>,
{
    let port = target.port.map_err(ConnectErrorKind::Destination)?;
    let usable = |ip: IpAddr| socket.source_ip.is_none_or(|source| source.is_ipv4() == ip.is_ipv4());
    if let Ok(ip) = target.host.parse::<IpAddr>() {
        let why = "the source address is of the other family";
        return usable(ip).then(|| vec![SocketAddr::new(ip, port)]).ok_or(ConnectErrorKind::Destination(why));
    }
    let name: Name =
        target.host.parse().map_err(|_| ConnectErrorKind::Destination("the name is too long"))?;
    let resolve = async {
        std::future::poll_fn(|cx| resolver.poll_ready(cx)).await?;
        resolver.call(name).await
    };
    dial.dial().resolve_begin();
    let found = dial.dial().run(resolve).await;
    dial.dial().resolve_end();
    let found = found.map_err(|error: R::Error| ConnectErrorKind::Resolve(error.into()))?;
    let addrs: Vec<_> = found
        .filter(|addr| usable(addr.ip()))
        .map(|mut addr| {
            addr.set_port(port); // keeps the zone of a link-local address
            addr
        })
        .collect();
    if addrs.is_empty() { Err(ConnectErrorKind::NoAddress) } else { Ok(addrs) }
}
