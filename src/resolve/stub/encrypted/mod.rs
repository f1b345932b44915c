//! Nameservers that are asked over TLS (RFC 7858) and HTTPS (RFC 8484): their connections.
//!
//! There is at most one connection to each nameserver at a time. It carries the queries of all lookups, of any number at
//! once, until it has been idle for [`usage::IDLE_LIMIT`] or the nameserver closes it. Lookups that need it while it is being
//! made wait for the same dial; if all of them are dropped, so is the dial.
//!
//! [`dial`] makes a connection, [`tls_session`] and [`https_session`] send queries over it, and [`usage`] says when it
//! has been idle for too long. The caller, `exchange`, encodes the queries and records the messages.

mod dial;
mod failure;
mod https_session;
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
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

use self::{
    dial::{Bootstrap, Dial, EstablishedStream},
    failure::SessionFailure,
    https_session::HttpsSession,
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
/// The protocol of DNS over TLS in ALPN (RFC 7858 section 7.1).
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
}

/// The connection to a nameserver.
enum Connection {
    /// Held weakly: the dial lives as long as somebody waits for it.
    Dialling(WeakShared<DialFuture>, DialRef),
    Open(Session),
}

type DialFuture = BoxFuture<'static, Result<Session, SessionFailure>>;

/// What a lookup found.
enum Found {
    Open(Session),
    Dialling(Shared<DialFuture>, DialRef),
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
        }
    }

    /// Returns a connection to the nameserver, an open one or a new one. What was dialled is recorded for `dial`.
    pub(super) async fn checkout(
        &self,
        server: &Arc<EncryptedNameserver>,
        dial: &DialRef,
        deadline: Instant,
    ) -> Result<Checkout, Kind> {
        let (dialled, shared_dial) = match self.find(server, deadline) {
            Found::Open(session) => return Ok(Checkout { session, is_reused: true }),
            Found::Dialling(dialled, shared_dial) => (dialled, shared_dial),
        };
        let recorder = dial.resolver_dial(&Nameserver(NameserverKind::Encrypted(server.clone())));
        recorder.shares(&shared_dial);
        // The dial has a deadline itself, which is this one or an earlier one, and records which part of it took too
        // long. It does not keep to it only if its runtime has stopped.
        let result = timeout_at(deadline + STOPPED_RUNTIME_GRACE, dialled).await;
        let result = result.unwrap_or(Err(SessionFailure::Timeout));
        match result {
            Ok(session) => {
                recorder.connected_to(session.conn());
                self.keep(server, &session);
                Ok(Checkout { session, is_reused: false })
            }
            Err(failure) => {
                let kind = Kind::from(failure);
                recorder.failed_with(|| FailureDetail::new(kind.failure(), kind.to_string()));
                Err(kind)
            }
        }
    }

    fn find(&self, server: &Arc<EncryptedNameserver>, deadline: Instant) -> Found {
        let mut connections = self.connections.lock().ignore_poison();
        match connections.get(server) {
            Some(Connection::Open(session)) if session.is_usable() => return Found::Open(session.clone()),
            Some(Connection::Dialling(dialled, dial)) => {
                if let Some(dialled) = dialled.upgrade().filter(|dialled| dialled.peek().is_none()) {
                    return Found::Dialling(dialled, dial.clone());
                }
            }
            _ => {}
        }
        let (dialled, dial) = self.dial(server, deadline);
        if let Some(weak) = dialled.downgrade() {
            connections.insert(server.clone(), Connection::Dialling(weak, dial.clone()));
        }
        Found::Dialling(dialled, dial)
    }

    /// Begins to dial. The dial runs in a task of its own: it belongs to no request, and the polls of those that wait for
    /// it are polls for theirs.
    fn dial(&self, server: &Arc<EncryptedNameserver>, deadline: Instant) -> (Shared<DialFuture>, DialRef) {
        let tls = match server.protocol {
            EncryptedProtocol::Tls => &self.dot,
            EncryptedProtocol::Https(_) => &self.doh,
        };
        let recorder = self.sink.nameserver_dial(|| server.authority().into());
        let dial = recorder.dial().clone();
        let connect = Dial {
            server: server.clone(),
            tls: tls.clone(),
            bootstrap: self.bootstrap.clone(),
            skip: self.skip.clone(),
            source_ip: self.source_ip,
            deadline,
        };
        let (sink, server) = (self.sink.clone(), server.clone());
        let task = AbortOnDrop(tokio::spawn(async move {
            let stream = connect.run(recorder).await?;
            let session = timeout_at(deadline, Session::begin(stream, &server, &sink));
            session.await.unwrap_or(Err(SessionFailure::Timeout))
        }));
        (task.boxed().shared(), dial)
    }

    /// Closes the connections as soon as they carry no query, and waits for those that carry none now.
    pub(super) async fn close(&self) {
        let connections = std::mem::take(&mut *self.connections.lock().ignore_poison());
        let mut ends = Vec::new();
        for connection in connections.into_values() {
            if let Connection::Open(Session { inner }) = connection {
                inner.is_retired.store(true, Relaxed);
                ends.extend((Arc::strong_count(&inner) == 1).then(|| inner.ended.clone()));
            }
        }
        for mut ended in ends {
            // An error is the end. It does not come if the connection's runtime has stopped.
            let _ = timeout(2 * CLOSE_TIMEOUT, ended.changed()).await;
        }
    }

    /// Keeps a new connection for other lookups.
    fn keep(&self, server: &Arc<EncryptedNameserver>, session: &Session) {
        let mut connections = self.connections.lock().ignore_poison();
        if let Some(Connection::Dialling(..)) = connections.get(server) {
            connections.insert(server.clone(), Connection::Open(session.clone()));
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
    is_reused: bool,
}

impl Checkout {
    /// Returns the identity of the connection; `None` if it is not traced.
    pub(super) fn conn(&self) -> Option<&ConnRef> {
        self.session.conn()
    }

    /// Reserves an ID for a query.
    pub(super) fn reserve_id(&self) -> ReservedId {
        match &self.session.inner.transport {
            Transport::Tls(session) => session.reserve(),
            Transport::Https(_) => ReservedId::any(),
        }
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
        let result = timeout_at(deadline, async {
            match &inner.transport {
                Transport::Tls(session) => session.exchange(id, query, on_sent).await,
                Transport::Https(session) => session.exchange(query, on_sent).await,
            }
        });
        match result.await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(failure)) => {
                let is_connections_end = failure.ends_connection();
                if is_connections_end {
                    inner.is_retired.store(true, Relaxed);
                }
                let kind = Kind::from(failure);
                let is_stale = is_connections_end && self.is_reused;
                Err(if is_stale { Kind::ReusedConnection(Box::new(kind)) } else { kind })
            }
            Err(_) => {
                // Nobody may be at the other end any more. The next query gets a new connection.
                inner.is_retired.store(true, Relaxed);
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
        let transport = match &server.protocol {
            EncryptedProtocol::Tls => Transport::Tls(TlsSession::begin(stream, alive)),
            EncryptedProtocol::Https(path) => {
                Transport::Https(HttpsSession::begin(stream, server, path, sink, alive).await?)
            }
        };
        let is_retired = AtomicBool::new(false);
        Ok(Session { inner: Arc::new(SessionInner { transport, conn, ended, is_retired }) })
    }

    fn conn(&self) -> Option<&ConnRef> {
        self.inner.conn.as_ref()
    }

    /// Returns `true` if another query can be sent.
    fn is_usable(&self) -> bool {
        let is_open = match &self.inner.transport {
            Transport::Tls(session) => session.is_open(),
            Transport::Https(session) => session.is_open(),
        };
        is_open && !self.inner.is_retired.load(Relaxed)
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
