//! The connections to one host.

use super::{
    Outgoing, Pool,
    conn_handle::ConnHandle,
    exchange::Waiting,
    idle::IdleCount,
    permit::{ConnPermit, ConnectGuard},
    pooled_conn::PooledConn,
    wait_queue::{Grant, GrantReceiver, WaitQueue},
};
use crate::{
    client::request_target::{Key, Route},
    record::EndReason,
};
use http::{
    HeaderValue, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use hyper::client::conn::http2;
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::time::Instant;

pub(in crate::client) struct Host {
    pool: Weak<Pool>,
    /// As connectors take it.
    pub(in crate::client) uri: Uri,
    /// How it is reached.
    pub(in crate::client) route: Route,
    /// The field `Host` of requests to it (RFC 9110 section 7.2), if it can be one.
    pub(in crate::client) header: Option<HeaderValue>,
    /// HTTP/2 with prior knowledge. A proxy that forwards requests speaks HTTP/1.
    pub(super) is_http2_only: bool,
    /// Whether connections are used more than once.
    keeps: bool,
    /// One connection is dialled at a time: all are to share it.
    dials_one: bool,
    limit: usize,
    idle_timeout: Option<Duration>,
    /// The idle connections of all hosts together.
    idle_count: Arc<IdleCount>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The one that was used last is at the end.
    idle: VecDeque<Idle>,
    shared: Option<Shared>,
    waiting: WaitQueue,
    /// Connections that are open or being made.
    open: usize,
    /// A connection that all will share is being made.
    dials_shared: bool,
    /// Connections whose response was read, and that will be ready in a moment.
    returning: usize,
    /// Where the number of connections is limited: those whose response is read. They may have it all, and be ready
    /// for others, long before their readers do.
    lent: HashMap<Identity, PooledConn>,
}

/// Of a connection, as long as somebody refers to its [`ConnHandle`].
type Identity = usize;

fn identity(handle: &Arc<ConnHandle>) -> Identity {
    Arc::as_ptr(handle).addr()
}

struct Idle {
    conn: PooledConn,
    since: Instant,
}

/// A connection that speaks HTTP/2.
struct Shared {
    sender: http2::SendRequest<Outgoing>,
    handle: Arc<ConnHandle>,
    streams: usize,
    idle_since: Instant,
}

/// What there is for an exchange.
pub(super) enum Checkout {
    Use(PooledConn),
    Wait(Waiting),
}

impl Host {
    pub(super) fn new(pool: &Arc<Pool>, Key { scheme, authority, route }: &Key) -> Self {
        let mut parts = http::uri::Parts::default();
        (parts.scheme, parts.authority) = (Some(scheme.clone()), Some(authority.clone()));
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
        let is_http2_only = pool.config.http2_only && !matches!(route, Route::Forward(_));
        Host {
            pool: Arc::downgrade(pool),
            uri: Uri::from_parts(parts).unwrap_or_default(),
            route: route.clone(),
            header: HeaderValue::try_from(host_field(scheme, authority)).ok(),
            is_http2_only,
            keeps: pool.keeps(),
            dials_one: pool.keeps() && is_http2_only,
            limit: pool.config.limits.max_per_host.unwrap_or(usize::MAX),
            idle_timeout: pool.config.limits.idle_timeout,
            idle_count: pool.idle_count.clone(),
            state: Mutex::default(),
        }
    }

    /// `None` when the client is gone.
    pub(super) fn pool(&self) -> Option<Arc<Pool>> {
        self.pool.upgrade()
    }

    /// A connection for an exchange, or how it gets one.
    pub(super) fn checkout(self: &Arc<Self>) -> Checkout {
        let mut gone = Vec::new(); // dropped when the lock is not held any more
        let mut state = self.state();
        while let Some(Idle { conn, since }) = state.idle.pop_back() {
            if conn.is_ready() && !self.is_over(since) {
                return Checkout::Use(conn);
            }
            gone.push(conn);
        }
        if let Some(conn) = state.share(self, true) {
            return Checkout::Use(conn);
        }
        let comes_back = state.returning > 0;
        let place = if comes_back { None } else { state.place(self) };
        let grants = state.waiting.join(self.clone(), place.is_none());
        let lent = if place.is_none() { std::mem::take(&mut state.lent) } else { HashMap::new() };
        drop(state);
        lent.into_values().for_each(PooledConn::settle);
        Checkout::Wait(Waiting { grants, place, comes_back })
    }

    /// Whether [`lend`](Self::lend) is to be used.
    pub(super) fn is_limited(&self) -> bool {
        self.limit < usize::MAX
    }

    /// A response is read from now on. Others may have the connection as soon as it is ready.
    pub(super) fn lend(&self, conn: PooledConn) {
        let mut state = self.state();
        if state.waiting.has_one_to_dial() {
            drop(state);
            conn.settle();
        } else {
            state.lent.insert(identity(&conn.handle), conn);
        }
    }

    /// The response was read, or will not be. The connection, if nobody else got it.
    pub(super) fn reclaim(&self, handle: &Arc<ConnHandle>) -> Option<PooledConn> {
        self.state().lent.remove(&identity(handle))
    }

    /// Leave to dial, if that is within the limit.
    pub(super) fn place(self: &Arc<Self>) -> Option<ConnPermit> {
        self.state().place(self)
    }

    /// To be offered a connection.
    pub(super) fn wait(self: &Arc<Self>) -> GrantReceiver {
        self.state().waiting.join(self.clone(), false)
    }

    /// A connection that can be used again.
    pub(super) fn release(self: &Arc<Self>, mut conn: PooledConn) {
        let Some(pool) = self.pool().filter(|pool| self.keeps && !pool.is_closed()) else { return };
        let most = pool.config.limits.max_idle_per_host.unwrap_or(usize::MAX);
        conn.is_reused = true;
        let handle = conn.handle.clone();
        let unwanted = {
            let mut state = self.state();
            match state.waiting.give(conn) {
                None => return,
                Some(conn) if state.idle.len() < most && !handle.is_closed() => {
                    state.idle.push_back(Idle { conn, since: Instant::now() });
                    None
                }
                unwanted => unwanted,
            }
        };
        if unwanted.is_some() {
            handle.will_close(EndReason::IdleLimit);
        } else if pool.is_closed() {
            // Closed since we looked, perhaps without having seen this one.
            self.close_idle(EndReason::Closed, |_| true);
        } else {
            pool.became_idle(&handle.runtime);
        }
    }

    /// A connection was made that all can share from now on.
    pub(super) fn established(
        self: &Arc<Self>,
        sender: http2::SendRequest<Outgoing>,
        handle: Arc<ConnHandle>,
    ) -> Option<PooledConn> {
        if !self.keeps {
            return Some(PooledConn::http2(sender, handle, self.clone(), false));
        }
        let (conn, replaced) = {
            let mut state = self.state();
            let shared = Shared { sender, handle, streams: 0, idle_since: Instant::now() };
            let replaced = state.shared.replace(shared);
            (state.share(self, false), replaced)
        };
        drop(replaced);
        while let Some(conn) = self.share_with_waiting() {
            // When nobody takes it after all, nobody waits.
            let back = self.state().waiting.give(conn);
            if back.is_some() {
                break;
            }
        }
        conn
    }

    /// A share of the connection that speaks HTTP/2, if there is one.
    pub(super) fn share(self: &Arc<Self>) -> Option<PooledConn> {
        self.state().share(self, true)
    }

    fn share_with_waiting(self: &Arc<Self>) -> Option<PooledConn> {
        let mut state = self.state();
        if state.waiting.is_empty() { None } else { state.share(self, true) }
    }

    pub(super) fn stream_ended(&self, handle: &Arc<ConnHandle>) {
        {
            let mut state = self.state();
            let Some(shared) = state.shared.as_mut().filter(|shared| Arc::ptr_eq(&shared.handle, handle))
            else {
                return;
            };
            shared.streams -= 1;
            if shared.streams > 0 {
                return;
            }
            shared.idle_since = Instant::now();
        }
        match self.pool() {
            Some(pool) => pool.became_idle(&handle.runtime),
            None => self.close_idle(EndReason::Closed, |_| true), // nobody else will
        }
    }

    /// A connection is closed, or was not made. Its place goes to the next who waits for one.
    pub(super) fn left(self: &Arc<Self>, connection: Option<&Arc<ConnHandle>>) {
        let forgotten = {
            let mut state = self.state();
            state.open -= 1;
            connection.map(|connection| state.forget(connection))
        };
        drop(forgotten);
        self.offer_places();
    }

    /// The dial is over of the connection that all were to share. Where it failed, the next may try.
    pub(super) fn dialled_shared(self: &Arc<Self>) {
        self.state().dials_shared = false;
        self.offer_places();
    }

    /// Those who wait may dial, as far as that is within the limit.
    fn offer_places(self: &Arc<Self>) {
        loop {
            let (waiter, place) = {
                let mut state = self.state();
                if !state.waiting.has_one_to_dial() {
                    return;
                }
                let Some(place) = state.place(self) else { return };
                (state.waiting.next_to_dial(), place)
            };
            // Where he has left in the meantime, the place goes on to the next.
            if let Some(waiter) = waiter {
                let _ = waiter.send(Grant::Dial(place));
            }
        }
    }

    /// A connection will be ready in a moment, until what is returned is dropped.
    pub(super) fn returning(self: &Arc<Self>) -> Returning {
        self.state().returning += 1;
        Returning(self.clone())
    }

    /// Nobody waits any more: the client is closed.
    pub(super) fn nobody_waits(&self) {
        let everybody = std::mem::take(&mut self.state().waiting);
        drop(everybody); // wakes them
    }

    /// Since when its idle connections are so.
    pub(super) fn idle(&self) -> Vec<Instant> {
        let state = self.state();
        let shared = state.shared.iter().filter(|shared| shared.streams == 0);
        state.idle.iter().map(|idle| idle.since).chain(shared.map(|shared| shared.idle_since)).collect()
    }

    /// Closes those connections of which that is true that they have been idle since.
    pub(super) fn close_idle(&self, reason: EndReason, mut which: impl FnMut(Instant) -> bool) {
        let (links, shared) = {
            let mut state = self.state();
            let all = std::mem::take(&mut state.idle);
            let (go, stay) = all.into_iter().partition(|idle| which(idle.since));
            state.idle = stay;
            let shared = state.shared.take_if(|shared| shared.streams == 0 && which(shared.idle_since));
            (go, shared)
        };
        let links: VecDeque<Idle> = links;
        links.iter().for_each(|idle| idle.conn.handle.will_close(reason.clone()));
        shared.iter().for_each(|shared| shared.handle.will_close(reason.clone()));
    }

    /// Whether what has been idle since then has been so for too long. Whoever is to close it may be late.
    fn is_over(&self, since: Instant) -> bool {
        self.idle_timeout.is_some_and(|timeout| since.elapsed() >= timeout)
    }

    /// How many are idle, lent, and waited for.
    #[cfg(test)]
    pub(super) fn counts(&self) -> [usize; 3] {
        let state = self.state();
        [state.idle.len(), state.lent.len(), state.waiting.len()]
    }

    fn state(&self) -> Locked<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { idle_before: state.idle_count(), state, total: &self.idle_count }
    }
}

/// The state of a host. What is done to it meanwhile is counted at the end.
struct Locked<'a> {
    state: MutexGuard<'a, State>,
    idle_before: usize,
    total: &'a IdleCount,
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.total.change(self.idle_before, self.state.idle_count());
    }
}

impl State {
    /// How many connections nobody uses.
    fn idle_count(&self) -> usize {
        self.idle.len() + usize::from(self.shared.as_ref().is_some_and(|shared| shared.streams == 0))
    }

    fn place(&mut self, host: &Arc<Host>) -> Option<ConnPermit> {
        let is_free = self.open < host.limit && !self.dials_shared;
        is_free.then(|| {
            self.open += 1;
            self.dials_shared = host.dials_one;
            ConnPermit::new(host.clone(), host.dials_one.then(|| ConnectGuard(host.clone())))
        })
    }

    /// The connection is closed: what is idle of it is let go of.
    fn forget(&mut self, connection: &Arc<ConnHandle>) -> (Option<Idle>, Option<Shared>) {
        connection.closed();
        let idle = self.idle.iter().position(|idle| Arc::ptr_eq(&idle.conn.handle, connection));
        let idle = idle.and_then(|index| self.idle.remove(index));
        (idle, self.shared.take_if(|shared| Arc::ptr_eq(&shared.handle, connection)))
    }

    fn share(&mut self, host: &Arc<Host>, is_reused: bool) -> Option<PooledConn> {
        let shared = self.shared.as_mut().filter(|shared| shared.sender.is_ready())?;
        if is_reused && shared.streams == 0 && host.is_over(shared.idle_since) {
            return None;
        }
        shared.streams += 1;
        Some(PooledConn::http2(shared.sender.clone(), shared.handle.clone(), host.clone(), is_reused))
    }
}

/// See [`Host::returning`].
pub(super) struct Returning(Arc<Host>);

impl Drop for Returning {
    fn drop(&mut self) {
        let none_is_left = {
            let mut state = self.0.state();
            state.returning -= 1;
            state.returning == 0
        };
        if none_is_left {
            self.0.offer_places();
        }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({})", self.uri)
    }
}

/// The host with its port, where that is not the scheme's own.
pub(in crate::client) fn host_field(scheme: &Scheme, authority: &Authority) -> String {
    let own = match scheme.as_str() {
        "https" | "wss" => 443,
        _ => 80,
    };
    match authority.port_u16().filter(|port| *port != own) {
        Some(port) => format!("{}:{port}", authority.host()),
        None => authority.host().to_owned(),
    }
}
