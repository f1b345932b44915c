//! One exchange: a request over one of the pool's connections, and the response to it.

use super::{
    Origin, Outgoing, Pool, PoolInner,
    conn::{ConnHandle, ConnPermit, PooledConn, READY_GRACE},
    connect::connect,
    leased_body::LeasedBody,
    state::{Grant, Ticket, Waiting},
};
use crate::{
    client::{
        body::Body,
        request_target::{self, PoolKey},
        send_body::{Gate, SendBody},
    },
    error::{BoxError, ClientClosed, NoRuntime, TimedOut, classify},
    request::TraceBody,
    sink::{CurrentRequest, PoolCheckout, PoolConnection, PoolWait},
};
use http::{Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use std::{
    error::Error,
    future::{pending, poll_fn},
    num::NonZeroU64,
    pin::{Pin, pin},
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

impl Pool {
    /// Makes a request over a connection to its host.
    ///
    /// If a connection that was used before turns out not to begin the request, it is sent over another one. If the
    /// server says that it has not processed the request, it is sent again up to [`MAX_REPEATS`] times.
    pub(in crate::client) fn send(
        self: Arc<Self>,
        mut request: Request<TraceBody<Body>>,
    ) -> impl Future<Output = Result<Response<LeasedBody>, BoxError>> + Send {
        let config = &self.0.config;
        let key = PoolKey::of(&mut request, &config.proxies, config.http2_only);
        let origin = key.map(|key| self.0.origin(key));
        let kind = RequestKind::of(request.method());
        let has_body = !request.body().is_end_stream();
        let timeouts = &config.timeouts;
        let gate = timeouts.expect_continue.filter(|_| has_body && expects_continue(&request)).map(Gate::new);
        let (mut header_timeout, sent) = HeaderTimeout::new(timeouts.response_header, has_body);
        let mut request = request.map(|body| SendBody::new(body, gate.clone(), sent));
        // An async block, because an async function would keep its arguments twice in its future.
        async move {
            let origin = origin?;
            // Fails before the request is sent, and not when the timers are created.
            if header_timeout.is_some() || gate.is_some() {
                NoRuntime::check()?;
            }
            if origin.is_http2_only {
                CurrentRequest::set_http2();
            }
            let mut repeats = 0;
            loop {
                let (mut conn, checkout) = self.checkout(&origin).await?;
                CurrentRequest::checked_out(conn.handle.conn.as_ref(), checkout);
                let is_http2 = conn.is_http2();
                if let Err(error) =
                    request_target::apply(&mut request, &origin.route, origin.host_field.as_ref(), is_http2)
                {
                    conn.finish(true);
                    return Err(error.into());
                }
                if !is_http2 {
                    conn.handle.informational.listen(gate.as_ref());
                }
                // hyper does not give back what HTTP/2 has taken.
                let replay = if is_http2 && repeats < MAX_REPEATS { Replay::of(&request) } else { None };
                let response = pin!(conn.send(request));
                let mut error = match with_header_timeout(header_timeout.as_mut(), response).await? {
                    Ok(response) => return Ok(lease(response, conn, gate, kind)),
                    Err(error) => error,
                };
                match error.take_message() {
                    Some(message) if conn.is_reused && !self.is_closed() => {
                        request = message;
                        request_target::restore(&mut request, &origin.route, &origin.uri);
                    }
                    taken => {
                        let error = error.into_error();
                        let may_repeat = taken.is_none() && is_unprocessed(&error) && !self.is_closed();
                        let Some(replay) = replay.filter(|_| may_repeat) else {
                            return Err(cause(error, &conn.handle));
                        };
                        CurrentRequest::refused(&classify::failure(&error));
                        repeats += 1;
                        let limit = self.0.config.timeouts.response_header;
                        let sent;
                        (header_timeout, sent) = HeaderTimeout::new(limit, has_body);
                        request = replay.into_request(gate.clone(), sent);
                    }
                }
            }
        }
    }

    /// Returns a connection for an exchange with the origin.
    async fn checkout(&self, origin: &Arc<Origin>) -> Result<(PooledConn, PoolCheckout), BoxError> {
        if self.is_closed() {
            return Err(ClientClosed.into());
        }
        let now = Instant::now();
        let checked_out = self.0.with(|state| {
            let conn = state.checkout(origin.host, now);
            conn.ok_or_else(|| state.wait(origin.host))
        });
        match checked_out {
            Ok((conn, connection)) => {
                Ok((conn, PoolCheckout { connection: Some(connection), ..PoolCheckout::default() }))
            }
            Err(waiting) => {
                let not_reused = Some(waiting.reason);
                let waited_for = waiting.obstacle;
                CurrentRequest::waits(PoolCheckout { connection: None, waited_for, not_reused });
                let (conn, connection) = self.wait(origin, waiting).await?;
                let waited_for = match connection {
                    PoolConnection::New => waited_for.filter(|wait| *wait == PoolWait::Limit),
                    PoolConnection::Shared => waited_for.or(Some(PoolWait::Dial)),
                    PoolConnection::Reused { .. } => waited_for.or(Some(PoolWait::Release)),
                };
                Ok((conn, PoolCheckout { connection: Some(connection), waited_for, not_reused }))
            }
        }
    }

    /// Waits for whichever comes first: a connection that another exchange releases, or the one that is dialed.
    async fn wait(
        &self,
        origin: &Arc<Origin>,
        Waiting { ticket, permit, is_returning, .. }: Waiting,
    ) -> Result<(PooledConn, PoolConnection), BoxError> {
        let pool = &self.0;
        let permit_of = |id| ConnPermit { pool: pool.clone(), id };
        let mut permit = permit.map(permit_of);
        let waiter = Waiter { pool, origin, ticket };
        NoRuntime::check()?;
        let mut grace = is_returning.then(|| Box::pin(sleep(READY_GRACE)));
        let mut dial = None;
        let taken = poll_fn(|cx| {
            while let Poll::Ready(grant) = pool.with(|state| state.poll(origin.host, ticket, cx.waker())) {
                match grant {
                    Grant::Conn(conn) => {
                        let connection = match conn.is_http2() {
                            true => PoolConnection::Shared,
                            false => PoolConnection::Reused { idle: Duration::ZERO },
                        };
                        return Poll::Ready(Ok((conn, connection)));
                    }
                    Grant::Dial(id) => permit = Some(permit_of(id)),
                    Grant::Closed => return Poll::Ready(Err(ClientClosed.into())),
                }
            }
            if grace.as_mut().is_some_and(|grace| grace.as_mut().poll(cx).is_ready()) {
                grace = None;
                let granted = pool.with(|state| state.grace_over(origin.host, ticket));
                permit = permit.take().or(granted.map(permit_of));
            }
            if let Some(permit) = permit.take() {
                dial = Some(Box::pin(connect(pool.clone(), origin.clone(), permit)));
            }
            let Some(dialing) = &mut dial else { return Poll::Pending };
            let dialed = ready!(dialing.as_mut().poll(cx));
            dial = None;
            // Another dial may have been quicker, whose HTTP/2 connection is shared.
            Poll::Ready(dialed.map(|conn| match conn.is_reused {
                true => (conn, PoolConnection::Shared),
                false => (conn, PoolConnection::New),
            }))
        })
        .await;
        drop(waiter);
        if let Some(dial) = dial.filter(|_| taken.is_ok()) {
            let closing = pool.closing.clone();
            pool.tasks.spawn(async move {
                if let Some(Ok(conn)) = closing.run_until_cancelled(dial).await {
                    conn.finish(true);
                }
            });
        }
        taken
    }
}

/// A guard of an exchange in the queue for connections. Its drop leaves the queue.
struct Waiter<'a> {
    pool: &'a Arc<PoolInner>,
    origin: &'a Origin,
    ticket: Ticket,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.pool.with(|state| state.leave(self.origin.host, self.ticket));
    }
}

/// How often a request is sent again that the server has not processed.
const MAX_REPEATS: usize = 3;

/// Returns `true` if the server says that it has not processed the request, so that it may be sent again (RFC 9113
/// section 8.7). A GOAWAY with an error is not retried: the next attempt would probably fail alike.
fn is_unprocessed(error: &hyper::Error) -> bool {
    let error = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    error.is_some_and(|error| {
        error.is_remote()
            && match error.reason() {
                Some(h2::Reason::REFUSED_STREAM) => error.is_reset(),
                // h2 reports this for streams above the GOAWAY's last stream identifier, and for those that it did not
                // open after the GOAWAY, but not for others, which the server may have processed: if the connection is
                // closed, they fail with an I/O error (RFC 9113 section 6.8).
                Some(h2::Reason::NO_ERROR) => error.is_go_away(),
                _ => false,
            }
    })
}

/// A copy of a request, to send it again.
struct Replay {
    head: Parts,
    body: Body,
}

impl Replay {
    /// Returns `None` if the body cannot be sent twice.
    fn of(request: &Request<Outgoing>) -> Option<Self> {
        let body = request.body().get_ref().get_ref().try_clone()?;
        let mut head = Request::new(()).into_parts().0;
        head.method = request.method().clone();
        head.uri = request.uri().clone();
        head.version = request.version();
        head.headers = request.headers().clone();
        head.extensions = request.extensions().clone();
        Some(Replay { head, body })
    }

    fn into_request(self, gate: Option<Gate>, sent: Option<oneshot::Sender<()>>) -> Request<Outgoing> {
        let recorder = if self.body.is_end_stream() { None } else { CurrentRequest::body_recorder() };
        let body = TraceBody::new(self.body, recorder);
        Request::from_parts(self.head, SendBody::new(body, gate, sent))
    }
}

fn expects_continue<B>(request: &Request<B>) -> bool {
    let expect = request.headers().get(header::EXPECT);
    expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// The limit on the time from the end of a request until the header of the response.
struct HeaderTimeout {
    limit: Duration,
    /// Resolves when the body was sent. `None` if there is none, or it was sent.
    sent: Option<oneshot::Receiver<()>>,
}

impl HeaderTimeout {
    /// Also returns the sender that the body of the request is given.
    fn new(limit: Option<Duration>, has_body: bool) -> (Option<Self>, Option<oneshot::Sender<()>>) {
        let (sender, sent) = limit.filter(|_| has_body).map(|_| oneshot::channel()).unzip();
        (limit.map(|limit| HeaderTimeout { limit, sent }), sender)
    }

    /// Returns the error once the request was sent, and the limit has passed since.
    async fn expired(&mut self) -> BoxError {
        if let Some(sent) = &mut self.sent {
            if sent.await.is_err() {
                return pending().await; // the connection has dropped the body, and fails the response
            }
            self.sent = None;
        }
        if let Err(error) = NoRuntime::check() {
            return error.into();
        }
        // In a box, as few requests get here.
        Box::pin(sleep(self.limit)).await;
        TimedOut { what: "the response's header did not come", limit: self.limit }.into()
    }
}

/// Waits for the header of the response; once the request was sent, for no longer than the limit.
async fn with_header_timeout<F: Future>(
    timeout: Option<&mut HeaderTimeout>,
    response: Pin<&mut F>,
) -> Result<F::Output, BoxError> {
    let Some(timeout) = timeout else { return Ok(response.await) };
    tokio::select! {
        biased;
        response = response => Ok(response),
        error = timeout.expired() => Err(error),
    }
}

/// The kind of request, as far as the length of the response's body depends on it (RFC 9112 section 6.3).
#[derive(Clone, Copy, PartialEq, Eq)]
enum RequestKind {
    Head,
    Connect,
    Other,
}

impl RequestKind {
    fn of(method: &Method) -> Self {
        match *method {
            Method::HEAD => RequestKind::Head,
            Method::CONNECT => RequestKind::Connect,
            _ => RequestKind::Other,
        }
    }
}

/// Leases the connection to the body of the response.
fn lease(
    mut response: Response<Incoming>,
    conn: PooledConn,
    gate: Option<Gate>,
    kind: RequestKind,
) -> Response<LeasedBody> {
    conn.handle.connected.get_extras(response.extensions_mut());
    let refusal = gate.and_then(Gate::refuse);
    let status = response.status();
    let is_tunnel = kind == RequestKind::Connect && status.is_success();
    if is_tunnel || status == StatusCode::SWITCHING_PROTOCOLS {
        conn.upgrade();
        return response.map(|inner| LeasedBody::detached(inner, refusal));
    }
    if response.body().is_end_stream() {
        conn.finish(true);
        return response.map(|inner| LeasedBody::detached(inner, None));
    }
    let has_content =
        kind != RequestKind::Head && ![StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    response.map(|inner| {
        let length = inner.size_hint().exact().filter(|_| has_content).and_then(NonZeroU64::new);
        LeasedBody::new(inner, conn, refusal, length)
    })
}

/// Returns why an exchange failed. HTTP/2 does not pass on that the client was closed.
fn cause(error: hyper::Error, handle: &ConnHandle) -> BoxError {
    if handle.is_failing() { ClientClosed.into() } else { error.into() }
}
