//! Nameservers that are asked over TLS (RFC 7858) and HTTPS (RFC 8484): their connections.
//!
//! There is at most one connection to each nameserver at a time. It carries the queries of all lookups, of any number
//! at once, until it has been idle for [`usage::IDLE_LIMIT`] or the nameserver closes it. Lookups that need it while it
//! is being made wait for the same dial; if all of them are dropped, so is the dial.
//!
//! [`dial`] makes a connection, [`tls_session`] and [`https_session`] send queries over it, [`usage`] says when it has
//! been idle for too long, and [`liveness`] when the nameserver has been silent for too long. The caller, `exchange`,
//! encodes the queries and records the messages.

mod dial;
mod failure;
mod https_session;
mod liveness;
mod tls_session;
mod usage;

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared, join_all},
};
use tokio::{
    runtime::Handle,
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

use self::{
    dial::{Bootstrap, Dial, EstablishedStream},
    failure::SessionFailure,
    https_session::HttpsSession,
    liveness::{Liveness, SILENCE_LIMIT},
    tls_session::{CLOSE_TIMEOUT, TlsSession},
};
use super::options::SkipNameserver;
use crate::{
    error::{FailureDetail, ResolveErrorKind as Kind},
    nameserver::{EncryptedNameserver, EncryptedProtocol, Nameserver, NameserverKind},
    sink::{ConnRef, DialRef, RequestHandle, TraceSink},
    sync::IgnorePoison,
    tls::TraceTlsLayer,
};

/// How long to wait beyond the deadline for the dial to end by itself.
const STOPPED_RUNTIME_GRACE: Duration = Duration::from_millis(500);
/// The protocol of DNS over TLS: the ALPN protocol ID `dot` of the IANA registry.
const ALPN_DOT: &str = "dot";
const ALPN_HTTP2: &str = "h2";

/// The connections to nameservers that are asked over TLS or HTTPS.
pub(super) struct EncryptedDns {
    sink: TraceSink,
    dot: TraceTlsLayer,
    doh: TraceTlsLayer,
    bootstrap: Bootstrap,
    skip: Option<SkipNameserver>,
    source_ip: Option<IpAddr>,
    connections: Mutex<HashMap<Arc<EncryptedNameserver>, Connection>>,
    /// The number of dials begun, by which they are told apart.
    dials_begun: AtomicU64,
}

/// The connection to a nameserver.
enum Connection {
    Dialling(PendingDial),
    Open(Session),
}

/// A dial as it is kept for others.
struct PendingDial {
    /// Held weakly: the dial lives as long as somebody waits for it.
    future: WeakShared<DialFuture>,
    record: DialRef,
    number: u64,
    /// Its sender is dropped when the dial has ended.
    ended: watch::Receiver<()>,
}

type DialFuture = BoxFuture<'static, Result<Session, SessionFailure>>;

/// What a lookup found.
enum Found {
    Open(Session),
    Dialling(DialInWait),
}

/// A dial that a lookup waits for.
struct DialInWait {
    future: Shared<DialFuture>,
    record: DialRef,
    number: u64,
    /// Another lookup has begun it, with a deadline and maybe a runtime of its own.
    is_joined: bool,
}

impl EncryptedDns {
    /// Creates the state without connections. `tls` has the settings for all nameservers, except for ALPN.
    pub(super) fn new(
        sink: &TraceSink,
        tls: &TraceTlsLayer,
        bootstrap: Bootstrap,
        skip: Option<SkipNameserver>,
        source_ip: Option<IpAddr>,
    ) -> Self {
        EncryptedDns {
            sink: sink.clone(),
            dot: tls.with_alpn(&[ALPN_DOT]),
            doh: tls.with_alpn(&[ALPN_HTTP2]),
            bootstrap,
            skip,
            source_ip,
            connections: Mutex::default(),
            dials_begun: AtomicU64::new(0),
        }
    }

    /// Returns a connection to the nameserver, an open one or a new one. What was dialled is recorded for `dial`.
    pub(super) async fn checkout(
        &self,
        server: &Arc<EncryptedNameserver>,
        dial: &DialRef,
        deadline: Instant,
    ) -> Result<Checkout, Kind> {
        let silence_limit = SILENCE_LIMIT.min(deadline.saturating_duration_since(Instant::now()));
        loop {
            let waited_for = match self.find(server, deadline, silence_limit) {
                Found::Open(session) => return Ok(Checkout { session }),
                Found::Dialling(dial) => dial,
            };
            let recorder = dial.resolver_dial(&Nameserver(NameserverKind::Encrypted(server.clone())));
            recorder.shares(&waited_for.record);
            // The dial has a deadline itself, which is this one or an earlier one, and records which part of it took
            // too long. It does not keep to it only if its runtime has stopped.
            let result = timeout_at(deadline + STOPPED_RUNTIME_GRACE, waited_for.future).await;
            match result.unwrap_or(Err(SessionFailure::Timeout)) {
                Ok(session) => {
                    recorder.connected_to(session.conn());
                    self.keep(server, &session, waited_for.number);
                    return Ok(Checkout { session });
                }
                Err(failure) => {
                    // The lookup that began the dial had less time left, or its runtime was shut down.
                    let is_of_other = waited_for.is_joined && failure.is_of_one_lookup();
                    let kind = Kind::from(failure);
                    recorder.failed_with(|| FailureDetail::new(kind.failure(), kind.to_string()));
                    if !is_of_other || Instant::now() >= deadline {
                        return Err(kind);
                    }
                }
            }
        }
    }

    fn find(&self, server: &Arc<EncryptedNameserver>, deadline: Instant, silence_limit: Duration) -> Found {
        // Declared before the lock is taken, so that they are dropped after it is released: dropping a dial may run
        // code of the program.
        let known;
        let _replaced;
        let mut connections = self.connections.lock().ignore_poison();
        match connections.get(server) {
            Some(Connection::Open(session)) if session.is_usable(silence_limit) => {
                return Found::Open(session.clone());
            }
            Some(Connection::Dialling(dial)) => {
                known = dial.future.upgrade();
                match known.as_ref().map(|future| (future, future.peek())) {
                    Some((future, None)) => {
                        let (future, record) = (future.clone(), dial.record.clone());
                        return Found::Dialling(DialInWait {
                            future,
                            record,
                            number: dial.number,
                            is_joined: true,
                        });
                    }
                    // Those that wait for it have not been polled since.
                    Some((_, Some(Ok(session)))) if session.is_usable(silence_limit) => {
                        let session = session.clone();
                        _replaced = connections.insert(server.clone(), Connection::Open(session.clone()));
                        return Found::Open(session);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        let (dial, pending) = self.dial(server, deadline);
        _replaced =
            pending.and_then(|pending| connections.insert(server.clone(), Connection::Dialling(pending)));
        Found::Dialling(dial)
    }

    /// Returns a dial that begins when it is polled, and what is kept of it for others.
    ///
    /// The dial runs in its own task. Polled by a waiter, it would be recorded for that waiter's request.
    fn dial(
        &self,
        server: &Arc<EncryptedNameserver>,
        deadline: Instant,
    ) -> (DialInWait, Option<PendingDial>) {
        let tls = match server.protocol {
            EncryptedProtocol::Tls => &self.dot,
            EncryptedProtocol::Https(_) => &self.doh,
        };
        let recorder = self.sink.nameserver_dial(|| server.authority().into());
        let record = recorder.dial().clone();
        let connect = Dial {
            server: server.clone(),
            tls: tls.clone(),
            bootstrap: self.bootstrap.clone(),
            skip: self.skip.clone(),
            source_ip: self.source_ip,
            deadline,
        };
        let (sink, server) = (self.sink.clone(), server.clone());
        let (alive, ended) = watch::channel(());
        let task = async move {
            let _alive = alive;
            let stream = connect.run(recorder).await?;
            let session = timeout_at(deadline, Session::begin(stream, &server, &sink));
            session.await.unwrap_or(Err(SessionFailure::Timeout))
        };
        // Spawned by the first poll, which is outside the lock: a runtime that is being shut down drops the task at
        // once.
        let future = async move { AbortOnDrop(tokio::spawn(task)).await }.boxed().shared();
        let number = self.dials_begun.fetch_add(1, Relaxed);
        let weak = future.downgrade();
        let pending = weak.map(|future| PendingDial { future, record: record.clone(), number, ended });
        (DialInWait { future, record, number, is_joined: false }, pending)
    }

    /// Closes the connections as soon as they carry no query, and waits for those that carry none now. A dial that a
    /// lookup waits for is going to carry its query.
    pub(super) async fn close(&self) {
        let connections = std::mem::take(&mut *self.connections.lock().ignore_poison());
        let mut ends = Vec::new();
        for connection in connections.into_values() {
            match connection {
                Connection::Open(Session { inner }) => {
                    inner.is_retired.store(true, Relaxed);
                    ends.extend((Arc::strong_count(&inner) == 1).then(|| inner.ended.clone()));
                }
                Connection::Dialling(dial) => {
                    ends.extend(dial.future.upgrade().is_none().then_some(dial.ended));
                }
            }
        }
        // Outside of a runtime there is no timer.
        if Handle::try_current().is_ok() {
            let all = join_all(ends.iter_mut().map(watch::Receiver::changed));
            // An error is the end. It does not come if the connection's runtime has stopped.
            let _ = timeout(2 * CLOSE_TIMEOUT, all).await;
        }
    }

    /// Keeps a new connection for other lookups, unless another dial was begun since or the connections were closed.
    fn keep(&self, server: &Arc<EncryptedNameserver>, session: &Session, number: u64) {
        let _replaced; // dropped after the lock is released
        let mut connections = self.connections.lock().ignore_poison();
        if let Some(Connection::Dialling(dial)) = connections.get(server)
            && dial.number == number
        {
            _replaced = connections.insert(server.clone(), Connection::Open(session.clone()));
        }
    }
}

impl fmt::Debug for EncryptedDns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptedDns").finish_non_exhaustive()
    }
}

/// A connection that one query may use.
pub(super) struct Checkout {
    session: Session,
}

impl Checkout {
    /// Returns the identity of the connection; `None` if it is not traced.
    pub(super) fn conn(&self) -> Option<&ConnRef> {
        self.session.conn()
    }

    /// Reserves an ID for a query. Waits while too many queries are open.
    pub(super) async fn reserve_id(&self, deadline: Instant) -> Result<ReservedId, Kind> {
        let reserve = async {
            match &self.session.inner.transport {
                Transport::Tls(session) => session.reserve().await,
                Transport::Https(_) => Ok(ReservedId::any()),
            }
        };
        self.until(deadline, reserve).await
    }

    /// Sends a query and returns the reply. `on_sent` is called when it was sent, with the HTTP request if that is how.
    pub(super) async fn exchange(
        &self,
        id: ReservedId,
        query: Vec<u8>,
        deadline: Instant,
        on_sent: impl FnOnce(Option<&RequestHandle>),
    ) -> Result<Vec<u8>, Kind> {
        let inner = &*self.session.inner;
        let exchange = async {
            match &inner.transport {
                Transport::Tls(session) => session.exchange(id, query, on_sent).await,
                Transport::Https(session) => session.exchange(query, &inner.liveness, on_sent).await,
            }
        };
        self.until(deadline, exchange).await
    }

    /// Runs a step of an exchange. If it fails because of the connection, the next query gets a new one.
    async fn until<T>(
        &self,
        deadline: Instant,
        step: impl Future<Output = Result<T, SessionFailure>>,
    ) -> Result<T, Kind> {
        let inner = &*self.session.inner;
        let begun = Instant::now();
        match timeout_at(deadline, step).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(failure)) => {
                let is_connections_end = failure.ends_connection();
                if is_connections_end {
                    inner.is_retired.store(true, Relaxed);
                }
                let is_stale = is_connections_end && inner.liveness.has_answered();
                let kind = Kind::from(failure);
                Err(if is_stale { Kind::ReusedConnection(Box::new(kind)) } else { kind })
            }
            Err(_) => {
                // If other queries were answered meanwhile, it is this one that the nameserver cannot answer.
                if !inner.liveness.has_received_since(begun) {
                    inner.is_retired.store(true, Relaxed);
                }
                Err(Kind::Timeout { ignored: None })
            }
        }
    }
}

pub(super) use self::tls_session::ReservedId;

/// An open connection to a nameserver, which any number of queries share. It is closed when the last one is done and
/// nobody keeps it.
#[derive(Clone)]
struct Session {
    inner: Arc<SessionInner>,
}

struct SessionInner {
    transport: Transport,
    conn: Option<ConnRef>,
    /// Its sender is dropped when the connection is closed.
    ended: watch::Receiver<()>,
    liveness: Arc<Liveness>,
    /// Set when the connection is not given to another query.
    is_retired: AtomicBool,
}

enum Transport {
    Tls(TlsSession),
    Https(HttpsSession),
}

impl Session {
    async fn begin(
        stream: EstablishedStream,
        server: &EncryptedNameserver,
        sink: &TraceSink,
    ) -> Result<Self, SessionFailure> {
        let conn = stream.conn.clone();
        let (alive, ended) = watch::channel(());
        let liveness = Arc::<Liveness>::default();
        let transport = match &server.protocol {
            EncryptedProtocol::Tls => Transport::Tls(TlsSession::begin(stream, liveness.clone(), alive)),
            EncryptedProtocol::Https(path) => {
                Transport::Https(HttpsSession::begin(stream, server, path, sink, alive).await?)
            }
        };
        let is_retired = AtomicBool::new(false);
        Ok(Session { inner: Arc::new(SessionInner { transport, conn, ended, liveness, is_retired }) })
    }

    fn conn(&self) -> Option<&ConnRef> {
        self.inner.conn.as_ref()
    }

    /// Returns `true` if another query can be sent, and the nameserver has not been silent for this time.
    fn is_usable(&self, silence_limit: Duration) -> bool {
        let is_open = match &self.inner.transport {
            Transport::Tls(session) => session.is_open(),
            Transport::Https(session) => session.is_open(),
        };
        is_open && !self.inner.is_retired.load(Relaxed) && !self.inner.liveness.is_silent_for(silence_limit)
    }
}

/// A task that is aborted when nobody waits for it any more.
struct AbortOnDrop(JoinHandle<Result<Session, SessionFailure>>);

impl Future for AbortOnDrop {
    type Output = Result<Session, SessionFailure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|joined| joined.unwrap_or(Err(SessionFailure::NoTask)))
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
