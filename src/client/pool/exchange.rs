//! One exchange: a request over one of the pool's connections, and the response to it.

use super::{
    Outgoing, Pool,
    conn_handle::ConnHandle,
    connect::connect,
    host::{Checkout, Host},
    pooled_conn::{PooledConn, READY_GRACE},
    wait_queue::{Grant, GrantReceiver},
};
use crate::{
    client::{
        body::Body,
        request_target::{self, Key},
        send_body::{Gate, Refusal, SendBody, Sent},
    },
    error::{BodyLengths, BoxError, ClientClosed, IncompleteBody, NoRuntime, TimedOut, classify},
    request::TraceBody,
    sink::CurrentRequest,
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, header, request::Parts};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use std::{
    error::Error,
    future::poll_fn,
    num::NonZeroU64,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

type Dial = BoxFuture<'static, Result<PooledConn, BoxError>>;

#[derive(Clone, Copy, Debug, Default)]
pub(in crate::client) struct Timeouts {
    pub(in crate::client) response_header: Option<Duration>,
    pub(in crate::client) expect_continue: Option<Duration>,
}

impl Pool {
    /// Makes the request over a connection to its host. Where one that had been used before turns out not to begin
    /// it, the request is made again over another; so it is, some times, where the server says that it has not
    /// processed it.
    pub(in crate::client) fn send(
        self: Arc<Self>,
        mut request: Request<TraceBody<Body>>,
    ) -> impl Future<Output = Result<Response<LeasedBody>, BoxError>> + Send {
        let host = Key::of(&mut request, &self.config).map(|key| self.host(key));
        let asked = Asked::of(request.method());
        let has_body = !request.body().is_end_stream();
        let timeouts = &self.config.timeouts;
        let gate = timeouts.expect_continue.filter(|_| has_body && expects_continue(&request)).map(Gate::new);
        let mut patience = timeouts.response_header.map(|limit| (limit, Sent::new(!has_body)));
        let sent = patience.as_ref().map(|(_, sent)| sent.clone());
        let mut request = request.map(|body| SendBody::new(body, gate.clone(), sent));
        // A block and no function: that would keep its arguments twice.
        async move {
            let host = host?;
            // Their timers are created when the request is on its way already.
            if patience.is_some() || gate.is_some() {
                NoRuntime::check()?;
            }
            if host.is_http2_only {
                CurrentRequest::set_http2();
            }
            let mut repeats = 0;
            loop {
                let mut conn = self.conn(&host).await?;
                if let Some(conn) = &conn.handle.conn {
                    CurrentRequest::acquired(conn);
                }
                if let Err(error) = request_target::apply(&mut request, &conn) {
                    conn.finish(true);
                    return Err(error.into());
                }
                if !conn.is_http2() {
                    conn.handle.interim.listen(gate.as_ref());
                }
                // hyper does not give back what HTTP/2 has taken.
                let replay =
                    if conn.is_http2() && repeats < MAX_REPEATS { Replay::of(&request) } else { None };
                let answer = pin!(conn.send(request));
                let mut error = match within(patience.as_ref(), answer).await? {
                    Ok(response) => return Ok(responded(response, conn, gate, asked)),
                    Err(error) => error,
                };
                match error.take_message() {
                    Some(message) if conn.is_reused && !self.is_closed() => {
                        request = message;
                        request_target::restore(&mut request, &host);
                    }
                    taken => {
                        let error = error.into_error();
                        let may_repeat = taken.is_none() && is_unprocessed(&error) && !self.is_closed();
                        let Some(replay) = replay.filter(|_| may_repeat) else {
                            return Err(reason(error, &conn.handle));
                        };
                        CurrentRequest::refused(&classify::failure(&error));
                        repeats += 1;
                        patience = patience.map(|(limit, _)| (limit, Sent::new(!has_body)));
                        request = replay.into_request(gate.clone(), patience.as_ref().map(|(_, sent)| sent));
                    }
                }
            }
        }
    }

    /// A connection for an exchange with the host.
    async fn conn(self: &Arc<Self>, host: &Arc<Host>) -> Result<PooledConn, BoxError> {
        if self.is_closed() {
            return Err(ClientClosed.into());
        }
        match host.checkout() {
            Checkout::Use(conn) => Ok(conn),
            Checkout::Wait(waiting) => self.wait(host, waiting).await,
        }
    }

    /// Takes what comes first: a connection that others leave, or the one that is dialled.
    async fn wait(self: &Arc<Self>, host: &Arc<Host>, waiting: Waiting) -> Result<PooledConn, BoxError> {
        NoRuntime::check()?;
        let mut dial = None;
        let begin = |place| -> Dial { Box::pin(connect(self.clone(), host.clone(), place)) };
        let mut patience = waiting.comes_back.then(|| Box::pin(sleep(READY_GRACE)));
        let Waiting { mut grants, mut place, .. } = waiting;
        let taken = poll_fn(|cx| {
            while let Poll::Ready(offer) = grants.poll(cx) {
                match offer {
                    Some(Grant::Use(conn)) => return Poll::Ready(Ok(conn)),
                    Some(Grant::Dial(offered)) => (place, grants) = (Some(offered), host.wait()),
                    None => return Poll::Ready(Err(ClientClosed.into())),
                }
            }
            // Perhaps just before this one began to wait.
            if self.is_closed() {
                return Poll::Ready(Err(ClientClosed.into()));
            }
            if patience.as_mut().is_some_and(|patience| patience.as_mut().poll(cx).is_ready()) {
                patience = None;
                place = place.take().or_else(|| host.place());
            }
            match place.take() {
                Some(place) if dial.is_none() => dial = Some(begin(place)),
                _ => {} // one dial is enough
            }
            let Some(dialled) = &mut dial else { return Poll::Pending };
            let conn = ready!(dialled.as_mut().poll(cx));
            dial = None;
            Poll::Ready(conn)
        })
        .await;
        if let Some(dial) = dial.filter(|_| taken.is_ok()) {
            let closing = self.closing.clone();
            self.tasks.spawn(async move {
                if let Some(Ok(conn)) = closing.run_until_cancelled(dial).await {
                    conn.finish(true);
                }
            });
        }
        taken
    }
}

/// How an exchange waits for a connection.
pub(super) struct Waiting {
    pub(super) grants: GrantReceiver,
    /// Without one it may not dial.
    pub(super) place: Option<super::permit::ConnPermit>,
    /// A connection will be ready in a moment.
    pub(super) comes_back: bool,
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

/// A request that can be sent again.
struct Replay {
    head: Parts,
    body: Body,
}

impl Replay {
    /// `None` when the body cannot be sent twice.
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

    fn into_request(self, gate: Option<Gate>, sent: Option<&Arc<Sent>>) -> Request<Outgoing> {
        let watch = if self.body.is_end_stream() { None } else { CurrentRequest::watch() };
        let body = TraceBody::new(self.body, watch);
        Request::from_parts(self.head, SendBody::new(body, gate, sent.cloned()))
    }
}

fn expects_continue<B>(request: &Request<B>) -> bool {
    let expect = request.headers().get(header::EXPECT);
    expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Timeouts for the response's header; from the time when the request was sent whole no longer than that.
async fn within<F: Future>(
    patience: Option<&(Duration, Arc<Sent>)>,
    mut answer: Pin<&mut F>,
) -> Result<F::Output, BoxError> {
    let mut timer = None::<Pin<Box<Sleep>>>;
    poll_fn(|cx| {
        if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
            return Poll::Ready(Ok(answer));
        }
        let Some((limit, _)) = patience.filter(|(_, sent)| sent.poll(cx)) else { return Poll::Pending };
        let timer = match &mut timer {
            Some(timer) => timer,
            None => {
                NoRuntime::check()?;
                timer.insert(Box::pin(sleep(*limit)))
            }
        };
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(TimedOut { what: "the response's header did not come", limit: *limit }.into()))
    })
    .await
}

/// The kind of request, as far as the length of the response's body depends on it (RFC 9112 section 6.3).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Head,
    Connect,
    Other,
}

impl Asked {
    fn of(method: &Method) -> Self {
        match *method {
            Method::HEAD => Asked::Head,
            Method::CONNECT => Asked::Connect,
            _ => Asked::Other,
        }
    }
}

fn responded(
    mut response: Response<Incoming>,
    conn: PooledConn,
    gate: Option<Gate>,
    asked: Asked,
) -> Response<LeasedBody> {
    conn.handle.connected.get_extras(response.extensions_mut());
    let refusal = gate.and_then(Gate::refuse);
    let status = response.status();
    let connected = asked == Asked::Connect && status.is_success();
    if connected || status == StatusCode::SWITCHING_PROTOCOLS {
        conn.hand_over();
        return response.map(|inner| LeasedBody { inner, lease: None, refusal, length: None });
    }
    if response.body().is_end_stream() {
        conn.finish(true);
        return response.map(|inner| LeasedBody { inner, lease: None, refusal: None, length: None });
    }
    let has_content =
        asked != Asked::Head && ![StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status);
    response.map(|inner| {
        let length = inner.size_hint().exact().filter(|_| has_content).and_then(NonZeroU64::new);
        LeasedBody { inner, lease: Some(Lease::of(conn)), refusal, length }
    })
}

/// Why an exchange failed. That the client was closed is lost on the way through HTTP/2.
fn reason(error: hyper::Error, handle: &ConnHandle) -> BoxError {
    if handle.is_failing() { ClientClosed.into() } else { error.into() }
}

/// The use of a connection by the reader of a response.
#[derive(Debug)]
enum Lease {
    Own(PooledConn),
    /// The host has it: it may be ready for others before the reader is.
    Lent(Arc<Host>, Arc<ConnHandle>),
}

impl Lease {
    fn of(conn: PooledConn) -> Self {
        if conn.is_http2() || !conn.host.is_limited() {
            return Lease::Own(conn);
        }
        let (host, handle) = (conn.host.clone(), conn.handle.clone());
        host.lend(conn);
        Lease::Lent(host, handle)
    }

    fn is_http2(&self) -> bool {
        matches!(self, Lease::Own(conn) if conn.is_http2())
    }

    fn handle(&self) -> &Arc<ConnHandle> {
        match self {
            Lease::Own(conn) => &conn.handle,
            Lease::Lent(_, handle) => handle,
        }
    }

    /// `None` when others got it in the meantime.
    fn conn(self) -> Option<PooledConn> {
        match self {
            Lease::Own(conn) => Some(conn),
            Lease::Lent(host, handle) => host.reclaim(&handle),
        }
    }

    fn finish(self, was_read: bool) {
        if let Some(conn) = self.conn() {
            conn.finish(was_read);
        }
    }

    /// The connection is of no more use.
    fn give_up(self) {
        drop(self.conn());
    }
}

pin_project! {
    /// The body of a response; while it lasts, so does the use of the connection.
    #[derive(Debug)]
    pub struct LeasedBody {
        #[pin]
        inner: Incoming,
        lease: Option<Lease>,
        refusal: Option<Refusal>,
        // Of the content, in bytes, where the header declares it.
        length: Option<NonZeroU64>,
    }

    impl PinnedDrop for LeasedBody {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(lease) = this.lease.take() {
                lease.finish(this.inner.is_end_stream());
            }
        }
    }
}

impl LeasedBody {
    /// It was read to its end.
    fn read(&mut self) {
        self.refusal = None;
        if let Some(lease) = self.lease.take() {
            lease.finish(true);
        }
    }

    /// Returns an error if the body ended before it was complete. hyper treats a stream that is reset with `NO_ERROR`
    /// like one that has ended, although a server may only send that after a complete response (RFC 9113 section 8.1).
    /// A body is complete when all bytes came that its header declares, with or without `END_STREAM`.
    fn cut_off(&self) -> Option<IncompleteBody> {
        let lease = self.lease.as_ref()?; // none is left once its end or an error was told
        let left = self.inner.size_hint();
        let missing = left.lower();
        let lengths = self.length.map(NonZeroU64::get).filter(|_| missing > 0);
        let lengths =
            lengths.map(|declared| BodyLengths { received: declared.saturating_sub(missing), declared });
        let is_reset = lease.is_http2() && !self.inner.is_end_stream() && left.exact() != Some(0);
        let http2_error = is_reset.then(|| h2::Reason::NO_ERROR.into());
        (lengths.is_some() || is_reset).then_some(IncompleteBody { lengths, http2_error })
    }
}

impl HttpBody for LeasedBody {
    type Data = Bytes;
    type Error = BoxError;

    #[inline]
    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if this.inner.is_end_stream() {
                    this.read();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                this.refusal = None;
                Poll::Ready(Some(Err(match this.lease.take() {
                    Some(lease) => {
                        let error = reason(error, lease.handle());
                        lease.give_up();
                        error
                    }
                    None => error.into(),
                })))
            }
            // Of a connection that is torn down no more may be heard than of one that came to its end.
            None => match this.lease.take_if(|lease| lease.handle().is_failing()) {
                Some(lease) => {
                    lease.give_up();
                    Poll::Ready(Some(Err(ClientClosed.into())))
                }
                None => {
                    let cut_off = this.cut_off();
                    this.read();
                    Poll::Ready(cut_off.map(|error| Err(error.into())))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
