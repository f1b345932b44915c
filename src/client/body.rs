//! The body of a request of the preset.

use crate::error::BoxError;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use std::{
    any::Any,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

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
