//! One exchange over a pooled connection: which connection it uses, how long the server may take to answer, and
//! whether the body waits for the server's word.

use super::{
    managed::PoolRef,
    pool::{Control, Lease},
    send_body::{Gate, SendBody, Sent},
};
use crate::{error::TimedOut, sink::CurrentRequest};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use hyper_util::client::legacy::connect::capture_connection;
use pin_project_lite::pin_project;
use std::{
    cell::RefCell,
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
    R: Body<Data = Bytes>,
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
        let body_sent = sent.as_ref().map(|(_, sent)| sent.clone());
        let inner = self.inner.call(request.map(|body| SendBody::new(body, gate, body_sent)));
        ExchangeFuture { inner, usage: Some(Usage { lease: None, current }), sent, timer: None }
    }
}

fn expects_continue<B>(request: &Request<B>) -> bool {
    let expect = request.headers().get(header::EXPECT);
    expect.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

thread_local! {
    /// Of the exchange in whose poll we are.
    static USAGE: RefCell<Option<Usage>> = const { RefCell::new(None) };
}

/// Which connection an exchange uses.
#[derive(Debug)]
struct Usage {
    lease: Option<Lease>,
    current: CurrentRequest,
}

/// The client has chosen a connection for the exchange in whose poll we are, if we are in one. It may choose again
/// when that one turns out stale.
pub(super) fn chosen(control: &Arc<Control>) {
    let _ = USAGE.try_with(|usage| {
        if let Some(usage) = &mut *usage.borrow_mut()
            && !usage.lease.as_ref().is_some_and(|lease| lease.is_of(control))
        {
            usage.lease = Some(Lease::new(control.clone()));
            if let Some(conn) = control.conn() {
                usage.current.acquired(conn);
            }
        }
    });
}

/// Polls `f` on behalf of the exchange with this usage.
fn with_usage<R>(usage: &mut Option<Usage>, f: impl FnOnce() -> R) -> R {
    struct Back<'a>(&'a mut Option<Usage>, Option<Usage>);
    impl Drop for Back<'_> {
        fn drop(&mut self) {
            let outer = self.1.take();
            *self.0 = USAGE.try_with(|current| current.replace(outer)).ok().flatten();
        }
    }
    let outer = USAGE.with(|current| current.replace(usage.take()));
    let _back = Back(usage, outer);
    f()
}

pin_project! {
    pub(super) struct ExchangeFuture<F> {
        #[pin]
        inner: F,
        usage: Option<Usage>,
        sent: Option<(Duration, Arc<Sent>)>,
        timer: Option<Pin<Box<Sleep>>>,
    }
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
        let result = with_usage(this.usage, || this.inner.poll(cx));
        match result {
            Poll::Ready(Ok(mut response)) => {
                response.extensions_mut().remove::<PoolRef>();
                let lease = this.usage.take().and_then(|usage| usage.lease);
                let lease = lease.filter(|_| !response.body().is_end_stream());
                Poll::Ready(Ok(response.map(|inner| LeasedBody { inner, lease })))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => {
                let acquired = this.usage.as_ref().is_some_and(|usage| usage.lease.is_some());
                let Some((limit, sent)) = this.sent else { return Poll::Pending };
                if !acquired || !sent.poll(cx) {
                    return Poll::Pending;
                }
                // Runs from the time when the request was sent whole.
                ready!(this.timer.get_or_insert_with(|| Box::pin(sleep(*limit))).as_mut().poll(cx));
                Poll::Ready(
                    Err(TimedOut { what: "the response's header did not come", limit: *limit }.into()),
                )
            }
        }
    }
}

pin_project! {
    /// The body of a response; while it lasts, so does the use of the connection.
    #[derive(Debug)]
    pub struct LeasedBody<B> {
        #[pin]
        inner: B,
        lease: Option<Lease>,
    }
}

impl<B: Body<Data = Bytes>> Body for LeasedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) || this.inner.is_end_stream() {
            *this.lease = None;
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
