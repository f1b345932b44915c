//! One exchange over a pooled connection: which connection it uses, how long the server may take to answer, and
//! whether the body waits for the server's word.

use super::{
    control::Lease,
    managed::PoolRef,
    send_body::{Gate, Refusal, SendBody, Sent},
    usage::Usage,
};
use crate::{
    error::{ClientClosed, TimedOut},
    sink::CurrentRequest,
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper_util::client::legacy::connect::capture_connection;
use pin_project_lite::pin_project;
use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep};
use tower_service::Service;

type BoxError = Box<dyn Error + Send + Sync>;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Waits {
    pub(super) response_header: Option<Duration>,
    pub(super) expect_continue: Option<Duration>,
}

#[derive(Clone, Debug)]
pub(super) struct Exchange<S> {
    inner: S,
    waits: Waits,
}

impl<S> Exchange<S> {
    pub(super) fn new(inner: S, waits: Waits) -> Self {
        Exchange { inner, waits }
    }
}

impl<S, B, R> Service<Request<B>> for Exchange<S>
where
    S: Service<Request<SendBody<B>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    B: Body,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Response = Response<LeasedBody<R>>;
    type Error = BoxError;
    type Future = ExchangeFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let current = CurrentRequest::get();
        let has_body = !request.body().is_end_stream();
        let gate =
            self.waits.expect_continue.filter(|_| has_body && expects_continue(&request)).map(Gate::new);
        if gate.is_some() || current.is_on() {
            let (gate, current) = (gate.clone(), current.clone());
            hyper::ext::on_informational(&mut request, move |response| {
                current.informational(response.status());
                if let Some(gate) = &gate
                    && response.status() == StatusCode::CONTINUE
                {
                    gate.open();
                }
            });
        }
        // Nothing is read from it: that it is there makes the client report its choice (see `PoolRef`).
        let _ = capture_connection(&mut request);
        let sent = self.waits.response_header.map(|limit| (limit, Sent::new(!has_body)));
        let state = State {
            usage: Some(Usage::new(current)),
            gate: gate.clone(),
            sent: sent.clone(),
            timer: None,
            connects: request.method() == Method::CONNECT,
        };
        let sent = sent.map(|(_, sent)| sent);
        let inner = self.inner.call(request.map(|body| SendBody::new(body, gate, sent)));
        ExchangeFuture { inner, state }
    }
}

fn expects_continue<B>(request: &Request<B>) -> bool {
    let expect = request.headers().get(header::EXPECT);
    expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

pin_project! {
    pub(super) struct ExchangeFuture<F> {
        #[pin]
        inner: F,
        state: State,
    }
}

struct State {
    usage: Option<Usage>,
    gate: Option<Gate>,
    sent: Option<(Duration, Arc<Sent>)>,
    timer: Option<Pin<Box<Sleep>>>,
    /// The method is CONNECT.
    connects: bool,
}

impl<F, R, E> Future for ExchangeFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    E: Into<BoxError>,
    R: Body<Data = Bytes>,
{
    type Output = Result<Response<LeasedBody<R>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let inner = this.inner;
        let result = Usage::scope(&mut this.state.usage, || inner.poll(cx));
        match result {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(this.state.responded(response))),
            Poll::Ready(Err(error)) => {
                let lease = this.state.usage.as_ref().and_then(Usage::lease);
                Poll::Ready(Err(reason(error, lease)))
            }
            Poll::Pending => this.state.poll_header_timeout(cx).map(|error| Err(error.into())),
        }
    }
}

impl State {
    fn responded<R: Body>(&mut self, mut response: Response<R>) -> Response<LeasedBody<R>> {
        response.extensions_mut().remove::<PoolRef>();
        let mut lease = self.usage.take().and_then(Usage::into_lease);
        let mut refusal = self.gate.take().and_then(Gate::refuse);
        let connected = self.connects && response.status().is_success();
        if (connected || response.status() == StatusCode::SWITCHING_PROTOCOLS)
            && let Some(lease) = lease.take()
        {
            lease.for_good();
        }
        if response.body().is_end_stream() {
            (lease, refusal) = (None, None);
        }
        response.map(|inner| LeasedBody { inner, lease, refusal })
    }

    /// Runs from the time when the request was sent whole.
    fn poll_header_timeout(&mut self, cx: &mut Context<'_>) -> Poll<TimedOut> {
        let Some((limit, sent)) = &self.sent else { return Poll::Pending };
        if self.usage.as_ref().and_then(Usage::lease).is_none() || !sent.poll(cx) {
            return Poll::Pending;
        }
        ready!(self.timer.get_or_insert_with(|| Box::pin(sleep(*limit))).as_mut().poll(cx));
        Poll::Ready(TimedOut { what: "the response's header did not come", limit: *limit })
    }
}

/// Why an exchange failed. That the client was closed is lost on the way through HTTP/2.
fn reason(error: impl Into<BoxError>, lease: Option<&Lease>) -> BoxError {
    match lease {
        Some(lease) if lease.client_closed() => ClientClosed.into(),
        _ => error.into(),
    }
}

pin_project! {
    /// The body of a response; while it lasts, so does the use of the connection.
    #[derive(Debug)]
    pub struct LeasedBody<B> {
        #[pin]
        inner: B,
        lease: Option<Lease>,
        refusal: Option<Refusal>,
    }
}

impl<B> Body for LeasedBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        let frame = frame.map(|frame| frame.map_err(|error| reason(error, this.lease.as_ref())));
        if !matches!(frame, Some(Ok(_))) || this.inner.is_end_stream() {
            *this.lease = None;
            *this.refusal = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
