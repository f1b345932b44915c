//! The connections of a client: who uses them, who waits for one, and when they are closed.
//!
//! An exchange takes an idle connection of its host, newest first, or a share of the one that speaks HTTP/2. Where
//! there is none it dials, and takes whichever comes first: its own connection, or one that another gave back. A dial
//! that is not needed any more goes on in the background, and its connection is idle then; it is given up only with
//! a request that is dropped.

mod conn_handle;
mod connect;
mod exchange;
mod host;
mod idle;
mod io;
mod permit;
mod pooled_conn;
mod wait_queue;

pub(super) use self::{
    connect::Connector,
    exchange::{LeasedBody, Timeouts},
    host::{Host, host_field},
    pooled_conn::PooledConn,
};

use self::{
    conn_handle::ConnRegistry,
    idle::{IdleCount, Reaping},
};
use super::{body::Body, request_target::Key, send_body::SendBody, tasks::Tasks};
use crate::{proxy::ProxySelector, record::EndReason, request::TraceBody};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioTimer;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Acquire, Ordering::Release},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// What is sent.
pub(super) type Outgoing = SendBody<TraceBody<Body>>;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    pub(super) max_idle: Option<usize>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_per_host: Option<usize>,
    /// How many idle connections to one host are kept.
    pub(super) max_idle_per_host: Option<usize>,
}

/// How connections are made and kept.
pub(super) struct PoolConfig {
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
    /// HTTP/2 with prior knowledge.
    pub(super) http2_only: bool,
    pub(super) proxies: ProxySelector,
}

pub(super) struct Pool {
    config: PoolConfig,
    connector: Connector,
    http1: http1::Builder,
    http2: http2::Builder<Tasks>,
    hosts: Mutex<HostTable>,
    registry: Arc<ConnRegistry>,
    closed: AtomicBool,
    /// Ends the dials that nobody waits for, and the task that closes idle connections.
    closing: CancellationToken,
    idle_count: Arc<IdleCount>,
    reaping: Reaping,
    tasks: Tasks,
}

#[derive(Default)]
struct HostTable {
    known: HashMap<Key, Arc<Host>, foldhash::fast::RandomState>,
    /// How many there may be before those are looked for that nobody needs.
    enough: usize,
}

impl Pool {
    pub(super) fn new(connector: Connector, config: PoolConfig) -> Arc<Self> {
        let tasks = Tasks::default();
        let mut http2 = http2::Builder::new(tasks.clone());
        http2.timer(TokioTimer::new());
        Arc::new(Pool {
            config,
            connector,
            http1: http1::Builder::new(),
            http2,
            hosts: Mutex::default(),
            registry: Arc::default(),
            closed: AtomicBool::new(false),
            closing: CancellationToken::new(),
            idle_count: Arc::default(),
            reaping: Reaping::default(),
            tasks,
        })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Acquire)
    }

    /// Whether connections are used more than once.
    fn keeps(&self) -> bool {
        self.config.limits.max_idle_per_host != Some(0)
    }

    /// Closes all that no exchange uses.
    pub(super) fn close_idle(&self) {
        for host in self.all_hosts() {
            host.close_idle(EndReason::Closed, |_| true);
        }
    }

    /// Closes everything. Returns when nothing is left but connections that became another protocol's.
    pub(super) async fn close(&self) {
        /// For connections to notice by themselves, so that their requests fail as closed by the client.
        const GRACE: Duration = Duration::from_millis(100);
        self.closed.store(true, Release);
        self.closing.cancel();
        for host in self.all_hosts() {
            host.close_idle(EndReason::Closed, |_| true);
            host.nobody_waits();
        }
        self.registry.fail_all();
        if !self.tasks.are_done_within(GRACE).await {
            // A connection whose response nobody reads does not look at its socket.
            self.tasks.stop();
            self.registry.wake_all();
            self.tasks.are_done().await;
        }
    }

    /// The host of that key. Forgets, now and then, those that have no connection and nobody who asks for one.
    fn host(self: &Arc<Self>, key: Key) -> Arc<Host> {
        let mut hosts = self.hosts();
        if let Some(host) = hosts.known.get(&key) {
            return host.clone();
        }
        if hosts.known.len() >= hosts.enough {
            hosts.known.retain(|_, host| Arc::strong_count(host) > 1);
            hosts.enough = (hosts.known.len() * 2).max(16);
        }
        let host = Arc::new(Host::new(self, &key));
        hosts.known.insert(key, host.clone());
        host
    }

    fn all_hosts(&self) -> Vec<Arc<Host>> {
        self.hosts().known.values().cloned().collect()
    }

    fn hosts(&self) -> MutexGuard<'_, HostTable> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    /// Idle connections refer to their host.
    fn drop(&mut self) {
        self.closing.cancel();
        for host in self.all_hosts() {
            host.close_idle(EndReason::Closed, |_| true);
        }
    }
}

#[cfg(test)]
mod tests {
    //! What a host keeps is not for long.

    use crate::{Client, TraceSink};
    use futures_util::poll;
    use std::{pin::pin, time::Duration};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        runtime::Handle,
        sync::oneshot,
        time::Instant,
    };

    const PART: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";

    async fn server() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        (listener, url)
    }

    /// Reads a request, whose only header field is at its end.
    async fn answer(listener: &TcpListener, response: &[u8]) -> TcpStream {
        let mut stream = listener.accept().await.unwrap().0;
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut request).await.unwrap();
        }
        stream.write_all(response).await.unwrap();
        stream
    }

    fn limited(max: impl Into<Option<usize>>) -> Client {
        Client::builder(&TraceSink::new()).max_conns_per_host(max).build().unwrap()
    }

    fn counts(client: &Client) -> [usize; 3] {
        client.0.pool.all_hosts()[0].counts()
    }

    async fn become_of(client: &Client, expected: [usize; 3]) {
        while counts(client) != expected {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn idle_connections_that_the_peer_closes() {
        for max in [None, Some(1)] {
            let ((listener, url), client) = (server().await, limited(max));
            let whole = [PART, b"-whole"].concat();
            let (response, stream) = tokio::join!(client.get(&url), answer(&listener, &whole));
            response.unwrap().into_body().bytes().await.unwrap();
            become_of(&client, [1, 0, 0]).await;
            drop(stream);
            become_of(&client, [0, 0, 0]).await;
        }
    }

    #[tokio::test]
    async fn responses_that_break_off() {
        let ((listener, url), client) = (server().await, limited(2));
        let (response, stream) = tokio::join!(client.get(&url), answer(&listener, PART));
        let body = response.unwrap().into_body();
        assert_eq!(counts(&client)[1], 1);
        drop(stream);
        assert!(body.bytes().await.is_err());
        assert_eq!(counts(&client)[1], 0);
    }

    /// The number of a connection that is closed may be another's by the time that its response is read.
    #[tokio::test]
    async fn responses_that_are_read_later() {
        let ((listener, url), client) = (server().await, limited(1));
        let whole = [PART, b"-whole"].concat();
        let (first, stream) = tokio::join!(client.get(&url), answer(&listener, &whole));
        drop(stream);
        let (second, _stream) = tokio::join!(client.get(&url), answer(&listener, PART));
        assert_eq!(counts(&client)[1], 1);
        first.unwrap().into_body().bytes().await.unwrap();
        assert_eq!(counts(&client)[1], 1, "the second's");
        drop(second);
        assert_eq!(counts(&client)[1], 0);
    }

    #[tokio::test]
    async fn those_who_do_not_wait_any_longer() {
        let ((listener, url), client) = (server().await, limited(1));
        let mut first = pin!(client.get(&url));
        let mut second = pin!(client.get(&url));
        assert!(poll!(first.as_mut()).is_pending() && poll!(second.as_mut()).is_pending());
        for _ in 0..1000 {
            assert!(poll!(pin!(client.get(&url))).is_pending());
        }
        assert!(counts(&client)[2] < 10, "{:?}", counts(&client));
        drop(listener);
    }

    /// A connection may become idle while another thread closes the client.
    #[tokio::test(start_paused = true)]
    async fn a_reaper_that_starts_during_close() {
        let client = limited(None);
        let pool = &client.0.pool;
        let (done, busy) = oneshot::channel::<()>();
        pool.tasks.spawn(async { drop(busy.await) });
        let begin = Instant::now();
        let mut closing = pin!(client.close());
        assert!(poll!(closing.as_mut()).is_pending());
        pool.start_reaper(Duration::from_secs(90), &Handle::current());
        drop(done);
        closing.await;
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    }
}
