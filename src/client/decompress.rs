//! Asks for gzip and undoes it, when nobody else speaks of encodings (as Go's transport does).

use crate::{
    error::{BoxError, DecodeError, classify},
    sink::{DecodedBodyRecorder, ResponseExt},
};
use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use http::{HeaderValue, Method, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::{
    error::Error,
    fmt,
    future::{Ready, ready},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tower_http::decompression::{Decompression, DecompressionBody};
use tower_service::Service;

const GZIP: HeaderValue = HeaderValue::from_static("gzip");

/// Whether a request asks for gzip on its own account.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asks(bool);

impl Asks {
    /// Has the request ask if it says nothing of that itself.
    pub(super) fn add<B>(on: bool, request: &mut Request<B>) -> Self {
        let headers = request.headers();
        let spoken_for =
            || headers.contains_key(header::ACCEPT_ENCODING) || headers.contains_key(header::RANGE);
        let asks = on && request.method() != Method::HEAD && !spoken_for();
        if asks {
            request.headers_mut().insert(header::ACCEPT_ENCODING, GZIP);
        }
        Asks(asks)
    }
}

/// The response with its body as the reader is to have it.
pub(super) fn decoded<R: Body>(response: Response<R>, Asks(asks): Asks) -> Response<Decoded<R>>
where
    R::Error: Into<BoxError>,
{
    if asks && is_encoded(&response) {
        decode(response)
    } else {
        response.map(|inner| Decoded::AsItCame { inner })
    }
}

fn is_encoded<B: Body>(response: &Response<B>) -> bool {
    let encoding = response.headers().get(header::CONTENT_ENCODING);
    encoding.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"gzip"))
        && !response.body().is_end_stream()
}

fn decode<B: Body>(mut response: Response<B>) -> Response<Decoded<B>>
where
    B::Error: Into<BoxError>,
{
    response.headers_mut().insert(header::CONTENT_ENCODING, GZIP);
    let watch = DecodedBodyRecorder::begin(response.request_handle());
    // The decoder is to be had as a service only.
    let mut decoder = Decompression::new(There(Some(response.map(|inner| Below { inner }))));
    match decoder.call(Request::new(())).now_or_never() {
        Some(Ok(response)) => response.map(|inner| Decoded::Gzip { inner: Box::pin(inner), watch }),
        None | Some(Err(Gone)) => unreachable!("the decoder gives back the response that is there, at once"),
    }
}

/// Answers with what it has.
struct There<B>(Option<Response<B>>);

#[derive(Debug)]
struct Gone;

impl<B> Service<Request<()>> for There<B> {
    type Response = Response<B>;
    type Error = Gone;
    type Future = Ready<Result<Response<B>, Gone>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(self.0.take().ok_or(Gone))
    }
}

pin_project! {
    /// Marks the errors of a body, so that they can be told from those of its decoder.
    pub(super) struct Below<B> {
        #[pin]
        inner: B,
    }
}

#[derive(Debug)]
pub(super) struct FromBelow(BoxError);

impl fmt::Display for FromBelow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for FromBelow {}

impl<B: Body> Body for Below<B>
where
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = FromBelow;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, FromBelow>>> {
        let marked = |error: B::Error| FromBelow(error.into());
        self.project().inner.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(marked)))
    }
}

/// The body's error as it was, or the decoder's own.
fn whose(error: BoxError) -> BoxError {
    match error.downcast::<FromBelow>() {
        Ok(below) => below.0,
        Err(own) => DecodeError(own).into(),
    }
}

pin_project! {
    /// A body as its reader gets it.
    #[project = DecodedProjection]
    pub(super) enum Decoded<B: Body>
    where
        B::Error: Into<BoxError>,
    {
        AsItCame {
            #[pin]
            inner: B,
        },
        Gzip {
            inner: Pin<Box<DecompressionBody<Below<B>>>>,
            watch: DecodedBodyRecorder,
        },
    }
}

impl<B> Body for Decoded<B>
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
        match self.project() {
            DecodedProjection::AsItCame { inner } => {
                inner.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            DecodedProjection::Gzip { inner, watch } => {
                let frame = ready!(inner.as_mut().poll_frame(cx)).map(|frame| frame.map_err(whose));
                match &frame {
                    Some(Ok(part)) => watch.received(part.data_ref().map_or(0, Buf::remaining) as u64),
                    Some(Err(error)) => watch.failed(classify::failure_detail(&**error)),
                    None => watch.complete(),
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Decoded::AsItCame { inner } => inner.is_end_stream(),
            Decoded::Gzip { inner, .. } => inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Decoded::AsItCame { inner } => inner.size_hint(),
            Decoded::Gzip { inner, .. } => inner.size_hint(),
        }
    }
}
