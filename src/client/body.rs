//! The bodies of requests and responses of the preset.

use super::{decompress::Decoded, error::ClientError, pool::LeasedBody};
use crate::{
    error::{BoxError, TimedOut},
    request::TraceResponseBody,
    sink::RequestHandle,
};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use std::{
    any::Any,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Sleep;

/// The body of a request.
///
/// Bytes can be sent again, as some redirects ask for. A stream cannot.
#[derive(Default)]
pub struct Body(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Option<Bytes>),
    Stream(UnsyncBoxBody<Bytes, BoxError>),
}

impl Body {
    /// Returns an empty body.
    pub const fn empty() -> Self {
        Body(Kind::Empty)
    }

    /// Returns a body that streams another one. If that is at its end already, this is [`empty`](Self::empty).
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let mut body = body;
        let known: &mut dyn Any = &mut body;
        if let Some(body) = known.downcast_mut::<Body>() {
            return std::mem::take(body);
        }
        if body.is_end_stream() {
            return Body::empty();
        }
        match bytes_of(&mut body) {
            Some(bytes) => Body::from(bytes),
            None => Body(Kind::Stream(body.map_err(Into::into).boxed_unsync())),
        }
    }

    /// Returns the same body once more; `None` for a stream.
    pub(super) fn try_clone(&self) -> Option<Self> {
        match &self.0 {
            Kind::Empty => Some(Body::empty()),
            Kind::Full(bytes) => Some(Body(Kind::Full(bytes.clone()))),
            Kind::Stream(_) => None,
        }
    }
}

/// Takes the bytes out of a body whose type says that it has nothing else.
fn bytes_of(body: &mut dyn Any) -> Option<Bytes> {
    if let Some(text) = body.downcast_mut::<String>() {
        return Some(std::mem::take(text).into());
    }
    let frame = body.downcast_mut::<Full<Bytes>>()?.frame().now_or_never()??;
    frame.ok()?.into_data().ok()
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Body::empty() } else { Body(Kind::Full(Some(bytes))) }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty | Kind::Full(None) => true,
            Kind::Full(Some(_)) => false,
            Kind::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty | Kind::Full(None) => SizeHint::with_exact(0),
            Kind::Full(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Empty => f.write_str("Body(empty)"),
            Kind::Full(bytes) => write!(f, "Body({} bytes)", bytes.as_ref().map_or(0, Bytes::len)),
            Kind::Stream(_) => f.write_str("Body(stream)"),
        }
    }
}

/// The body of a response of [`Client`](super::Client).
///
/// The request is in progress until this is read to its end or dropped, and the client's time limit applies until then.
pub struct ResponseBody {
    /// `None` after the deadline.
    inner: Option<Decoded<TraceResponseBody<LeasedBody>>>,
    deadline: Option<Deadline>,
    request: RequestHandle,
}

/// The time when a request, with its redirects and its body, is cancelled.
#[derive(Debug)]
pub(super) struct Deadline {
    pub(super) sleep: Pin<Box<Sleep>>,
    limit: Duration,
}

impl Deadline {
    pub(super) fn new(limit: Duration) -> Self {
        Deadline { sleep: Box::pin(tokio::time::sleep(limit)), limit }
    }

    pub(super) fn expired(&self, request: &RequestHandle) -> ClientError {
        let error = TimedOut { what: "the request was not done", limit: self.limit };
        request.timed_out(&error.to_string());
        ClientError::failed(error, request.clone())
    }
}

impl ResponseBody {
    pub(super) fn new(body: Decoded<TraceResponseBody<LeasedBody>>) -> Self {
        ResponseBody { inner: Some(body), deadline: None, request: RequestHandle::unbound() }
    }

    pub(super) fn with_deadline(mut self, deadline: Option<Deadline>, request: RequestHandle) -> Self {
        self.deadline = deadline;
        self.request = request;
        self
    }

    /// Reads the whole body. There is no limit on its size.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection breaks, the time limit expires, or the body cannot be decoded.
    pub async fn bytes(self) -> Result<Bytes, ClientError> {
        self.collect().await.map(|all| all.to_bytes())
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = ClientError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientError>>> {
        let this = &mut *self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) {
            if frame.is_none() {
                this.deadline = None;
            }
            let failed = |error| ClientError::failed(error, this.request.clone());
            return Poll::Ready(frame.map(|frame| frame.map_err(failed)));
        }
        if let Some(deadline) = &mut this.deadline
            && deadline.sleep.as_mut().poll(cx).is_ready()
        {
            let error = deadline.expired(&this.request);
            this.inner = None;
            this.deadline = None;
            return Poll::Ready(Some(Err(error)));
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("request", &self.request).finish_non_exhaustive()
    }
}
